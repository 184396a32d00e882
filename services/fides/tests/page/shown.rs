//! How the page looks: on screens narrow and wide, for those who prefer light or dark, with data that lives.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::browser::Browser;
use crate::served::Served;
use crate::shop::Shop;
use crate::staying::Staying;

/// Bytes of a picture that one may put into a repository.
const PICTURE_BYTES_MAX: usize = 200_000;
/// For how long changes are seen before a picture is taken for the documentation, whose charts should show something.
const LIVE: Duration = Duration::from_secs(100);

/// Three pipelines: one that changes and is slow to write, one with letters, one that somebody paused.
const CONFIG: &str = "
backplane:
  embedded: { path: ./state.fides }
hosts:
  shop: { kind: sqlite, path: ./host.sqlite }
targets:
  search: { kind: sqlite, path: ./target.sqlite }
  storefront: { kind: sqlite, path: ./storefront.sqlite }
pipelines:
  orders:
    { host: shop, from: orders, target: search, into: orders, create: true, columns: '*', schedule: '* * * * * *',
      limits: { rate_records_per_second: 900, batch_records_max: 50, lanes: 6 } }
  prices:
    host: shop
    from: prices
    target: storefront
    into: prices
    create: true
    schedule: '*/5 * * * * *'
    mapping: { id: id, name: name, price: { from: price, cast: decimal } }
  reviews: { host: shop, from: reviews, target: storefront, into: reviews, create: true, columns: '*' }
limits: { dead_ratio_max: 1.0, lease_ms: 60000 }
";

const HOST: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total INTEGER NOT NULL);
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
    INSERT INTO orders SELECT i, 'customer ' || (i * 7919 % 5003), i * 31 % 977 FROM n;
CREATE TABLE prices (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price TEXT);
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 800)
    INSERT INTO prices SELECT i, 'article ' || i, CASE WHEN i IN (17, 404) THEN 'on request' ELSE i || '.50' END FROM n;
CREATE TABLE reviews (id INTEGER PRIMARY KEY, text TEXT);
INSERT INTO reviews VALUES (1, 'as described'), (2, 'late, but whole');";

fn busy_shop() -> Shop {
    let shop = Shop::empty();
    shop.configure(CONFIG);
    shop.on_host(HOST);
    let synced = shop.run(&["sync", "--once"]);
    assert_eq!(synced.status, 2, "two prices are none: {}", synced.stderr);
    let paused = shop.run(&["pause", "reviews", "--requester", "anna: the target is moved"]);
    assert_eq!(paused.status, 0, "{}", paused.stderr);
    shop
}

const TOP: &str = "scrollTo(0, 0)";
const BOTTOM: &str = "scrollTo(0, document.documentElement.scrollHeight)";

/// Changes on the host, more of them and fewer.
fn change(shop: &Shop, round: u64) {
    let many = 150 + (round * round * 131) % 1_400;
    let from = (round * 977) % 4_500;
    shop.on_host(&format!(
        "UPDATE orders SET total = total + 1 WHERE id BETWEEN {from} AND {}; UPDATE prices SET name = name || '!' WHERE id % 40 = {}",
        from + many,
        round % 40
    ));
}

#[test]
fn it_fits_every_screen() {
    let pictures = std::env::var_os("FIDES_TEST_PICTURES");
    let shop = busy_shop();
    let _sync = Staying::start(&shop);
    let served = Served::start(&shop, &[]);
    let mut browser = Browser::start();
    browser.screen(1_100, 1_300, "light");
    browser.open(&format!("http://{}/", served.address));
    browser.until("the pipelines", "document.querySelectorAll('article').length === 3");
    let (began, mut round) = (Instant::now(), 0);
    let written = "/written [1-9]/.test(document.querySelector('article figcaption').textContent)";
    while browser.value(written) != true || (pictures.is_some() && began.elapsed() < LIVE) {
        assert!(began.elapsed() < LIVE * 2, "nothing is ever written");
        change(&shop, round);
        round += 1;
        let seen = browser.text("#state");
        browser.until("the next look", &format!("document.querySelector('#state').textContent !== {seen:?}"));
    }
    browser.click("#pipelines article:nth-of-type(2) > details > summary");
    browser.until("the letters", "document.querySelectorAll('.letters > li').length === 2");

    for (name, width, height, place) in
        [("wide", 1_100, 1_300, TOP), ("narrow", 380, 1_300, TOP), ("parts", 1_100, 640, BOTTOM)]
    {
        for scheme in ["light", "dark"] {
            browser.screen(width, height, scheme);
            browser.value(place);
            let beyond = browser.value("document.documentElement.scrollWidth - innerWidth");
            assert!(beyond.as_i64().unwrap() <= 0, "{name}: {beyond} pixels wider than the screen");
            let ground = browser.value("getComputedStyle(document.body).backgroundColor");
            let expected = if scheme == "light" { "rgb(245, 246, 244)" } else { "rgb(18, 22, 20)" };
            assert_eq!(ground, expected, "{name} {scheme}");
            assert_eq!(browser.value(TOO_FAINT), serde_json::json!([]), "{name} {scheme}: contrast below 4.5");
            let picture = browser.picture();
            assert!(picture.starts_with(b"\x89PNG") && picture.len() < PICTURE_BYTES_MAX, "{} bytes", picture.len());
            if let Some(folder) = &pictures {
                std::fs::write(Path::new(folder).join(format!("dashboard-{name}-{scheme}.png")), picture).unwrap();
            }
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Texts whose contrast to the ground behind them is below what WCAG's level AA asks for.
const TOO_FAINT: &str = "(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = color.map((part) => { const c = part / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let it = element; it; it = it.parentElement) {
      const ground = parse(getComputedStyle(it).backgroundColor);
      if (ground.length === 3) return ground;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter((it) => it.checkVisibility() && !it.disabled
    && [...it.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim()));
  return texts.filter((it) => {
    const [one, other] = [light(parse(getComputedStyle(it).color).slice(0, 3)), light(behind(it))].sort((a, b) => b - a);
    return (one + 0.05) / (other + 0.05) < 4.5;
  }).map((it) => it.textContent);
})()";
