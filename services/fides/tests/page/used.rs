//! What people do on the page.

use crate::browser::Browser;
use crate::served::Served;
use crate::shop::{CONFIG, Shop};
use crate::staying::{Staying, until};

const TOKEN: &str = "a-token-of-some-length";
/// A name that is markup, where somebody forgets that it is a text.
const HOSTILE: &str = "<img src=x onerror=document.title=1>";

/// The target takes everything but one name.
fn refusing(shop: &Shop) {
    shop.on_target(&format!(
        "CREATE TRIGGER no BEFORE INSERT ON items WHEN NEW.name = '{HOSTILE}' BEGIN SELECT RAISE(ABORT, 'we do not sell that'); END"
    ));
    shop.on_host(&format!("INSERT INTO item VALUES (4, '{HOSTILE}', '1')"));
}

fn page(served: &Served) -> String {
    format!("http://{}/", served.address)
}

/// Nothing went wrong, and nothing came from anywhere else.
fn all_is_well(browser: &mut Browser, served: &Served) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let (page, asked) = (page(served), browser.asked_for());
    assert!(asked.len() > 10, "{asked:?}");
    assert!(asked.iter().all(|url| url.starts_with(&page)), "{asked:?}");
}

#[test]
fn a_letter_is_replayed_and_a_reimport_started() {
    let shop = Shop::new();
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    refusing(&shop);
    let _sync = Staying::start(&shop);
    let served = Served::start(&shop, &[]);
    let mut browser = Browser::start();
    browser.open(&page(&served));

    browser.until("the letter", "document.querySelector('#remarks')?.textContent.includes('1 dead letter')");
    browser.click("article > details > summary");
    browser.until("the letter's text", "document.querySelector('.letters li')");
    let letter = browser.text(".letters li");
    assert!(letter.contains("we do not sell that") && letter.contains(HOSTILE), "{letter}");
    assert_eq!(browser.value("document.images.length"), 0, "what a record says is no markup");

    shop.on_target("DROP TRIGGER no");
    browser.click("button[aria-label='Replay 4']");
    until("the record", || shop.target_names().len() == 4);
    assert_eq!(shop.target_names()[3], HOSTILE);
    browser.until("the end of the letter", "document.querySelector('article > details').hidden");
    browser.until(
        "the command",
        "[...document.querySelectorAll('#commands tr')].some((row) => /replay.*done/.test(row.textContent))",
    );
    assert_eq!(browser.value("document.querySelector('#attention').hidden"), true);

    // The mark says that nothing has to be sent: only a full import mends this.
    shop.on_target("UPDATE items SET name = 'something else' WHERE id = 1");
    browser.click("article .actions button");
    let is_open = "document.querySelector('#reimport').open";
    assert_eq!(browser.value(is_open), true);
    // From here on without a mouse; the field has the focus.
    browser.type_text("item");
    browser.press("Enter");
    let is_locked = "document.querySelector('#reimport [type=submit]').disabled";
    assert_eq!(
        (browser.value(is_locked), browser.value(is_open)),
        (true.into(), true.into()),
        "another name is no confirmation"
    );
    browser.type_text("s");
    assert_eq!(browser.value(is_locked), false);
    browser.click("#reimport input[value=full]");
    browser.press("Enter");
    browser.until("the answer", "!document.querySelector('#reimport').open");
    until("the import", || shop.target_names()[0] == "apple");
    browser.until(
        "the command",
        "[...document.querySelectorAll('#commands tr')].some((row) => /reimport.*done/.test(row.textContent))",
    );
    all_is_well(&mut browser, &served);
}

#[test]
fn a_token_is_asked_for_once() {
    let shop = Shop::new();
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    let served = Served::start(&shop, &[("FIDES__DASHBOARD__TOKEN", TOKEN)]);
    let mut browser = Browser::start();
    browser.open(&page(&served));
    let is_open = "document.querySelector('#token').open";
    browser.until("the question", is_open);
    assert_eq!(browser.value("document.querySelectorAll('article').length"), 0, "nothing is shown without it");
    browser.type_text("wrong");
    browser.press("Enter");
    browser.until("the refusal", "document.querySelector('#token .problem').textContent.includes('wrong')");
    browser.until("the question again", is_open);
    browser.type_text(TOKEN);
    browser.press("Enter");
    browser.until("the pipeline", "document.querySelector('article')");
    browser.open(&page(&served));
    browser.until("the pipeline, without a question", "document.querySelector('article')");
    assert_eq!(browser.value(is_open), false);
}

#[test]
fn a_target_that_cannot_be_written_is_shown() {
    let shop = Shop::new();
    shop.configure(&format!("{CONFIG}limits: {{ retry_attempts_max: 1, breaker_failures: 1 }}\n"));
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    let _sync = Staying::start(&shop);
    let served = Served::start(&shop, &[]);
    let mut browser = Browser::start();
    browser.open(&page(&served));
    browser.until("the breakers", "document.querySelector('#parts')?.textContent.includes('target copyclosed')");

    let lock = shop.lock_target();
    shop.on_host("UPDATE item SET name = 'bread roll' WHERE id = 2");
    let asked = shop.run(&["reimport", "items", "--json"]);
    assert_eq!(asked.status, 0, "{}", asked.stderr);
    browser.until("the lane", "/items: 1 lane cannot work: /.test(document.querySelector('#remarks').textContent)");
    browser.until("the breaker", "document.querySelector('#parts')?.textContent.includes('target copyopen')");
    assert_eq!(browser.text("article .badge"), "waiting");
    drop(lock);
    until("the record", || shop.target_names()[1] == "bread roll");
    browser.until("the end of it", "document.querySelector('#attention').hidden");
    all_is_well(&mut browser, &served);
}

#[test]
fn a_page_whose_server_has_ended_says_so() {
    let shop = Shop::new();
    assert_eq!(shop.run(&["sync", "--once"]).status, 0);
    let served = Served::start(&shop, &[]);
    let mut browser = Browser::start();
    browser.open(&page(&served));
    browser.until("the pipeline", "document.querySelector('article .badge')?.textContent === 'nobody works'");
    drop(served);
    browser.until(
        "the end",
        "/no answer: .*; what is shown is \\d+ s old/.test(document.querySelector('#state').textContent)",
    );
    assert_eq!(browser.text("article h3"), "items", "what was known is still shown");
}
