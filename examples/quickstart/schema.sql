-- The host of the quickstart: a gazetteer that belongs to somebody else.
-- Each table is filled from the TSV file of its name; load them in this order.
PRAGMA foreign_keys = ON;

CREATE TABLE country (
    iso2       TEXT    NOT NULL PRIMARY KEY,
    iso3       TEXT    NOT NULL UNIQUE,
    iso_num    INTEGER NOT NULL,
    geoname_id INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    capital    TEXT,
    continent  TEXT    NOT NULL,
    area_km2   INTEGER NOT NULL,
    population INTEGER NOT NULL,
    tld        TEXT,
    curr_code  TEXT,
    curr_name  TEXT,
    phone      TEXT,
    postal_re  TEXT,            -- a regular expression, backslashes and all
    langs      JSON    NOT NULL,
    neighbours TEXT             -- iso2 codes, separated by commas
);

CREATE TABLE timezone (
    tz_name         TEXT    NOT NULL PRIMARY KEY,
    utc_offset_min  INTEGER NOT NULL,
    has_dst         BOOLEAN NOT NULL,
    next_change_utc TIMESTAMP   -- NULL where the clocks do not change
);

CREATE TABLE city (
    geoname_id   INTEGER NOT NULL PRIMARY KEY,
    name         TEXT    NOT NULL,
    ascii_name   TEXT,
    lat          TEXT    NOT NULL,  -- decimal degrees, kept as text so that no digit is lost
    lon          TEXT    NOT NULL,
    fcode        TEXT    NOT NULL,  -- GeoNames feature code: PPLC, PPLA, PPL, ...
    country_code TEXT    NOT NULL REFERENCES country (iso2),
    admin1       TEXT,
    population   INTEGER NOT NULL,  -- 0 means that nobody knows
    elev         INTEGER,           -- metres, mostly unknown
    dem          INTEGER NOT NULL,  -- metres, from a digital elevation model; -9999 means none
    tz           TEXT    NOT NULL REFERENCES timezone (tz_name),
    is_capital   BOOLEAN NOT NULL,
    mod_date     DATE    NOT NULL
);
CREATE INDEX city_country_code ON city (country_code);
CREATE INDEX city_tz ON city (tz);

CREATE TABLE city_name (
    geoname_id INTEGER NOT NULL REFERENCES city (geoname_id),
    script     TEXT    NOT NULL,    -- ISO 15924: Cyrl, Arab, Hani, Jpan, ...
    name       TEXT    NOT NULL,
    PRIMARY KEY (geoname_id, script, name)  -- serves the foreign key as well
);
