//! What `check` tells of a log.

use fides_core::port::Concern;

use crate::common::Database;
use crate::support::{reader, refused};

fn about<'c>(concerns: &'c [Concern], part: &str) -> Option<&'c Concern> {
    concerns.iter().find(|concern| concern.what.contains(part))
}

#[tokio::test]
async fn what_the_log_would_not_tell_is_named() {
    let database = Database::create().await;
    database
        .execute(
            "CREATE TABLE p (id int PRIMARY KEY); \
             CREATE TABLE t (id varchar(9) CHARACTER SET ucs2 PRIMARY KEY, p int, \
                             CONSTRAINT down FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE); \
             CREATE TABLE m (id int PRIMARY KEY) ENGINE = MyISAM; CREATE VIEW v AS SELECT * FROM p; \
             CREATE TABLE fine (id int PRIMARY KEY)",
        )
        .await;
    let host = database.following().await;
    let check = async |table: &str| {
        let selection = database.selection(&*host, table, &["id"], 10).await;
        host.check_log(&selection, &reader(&database)).await.unwrap()
    };
    let concerns = check("t").await;
    assert!(about(&concerns, "of character set ucs2").is_some_and(|concern| concern.stops), "{concerns:?}");
    assert!(about(&concerns, "foreign key down").is_some_and(|concern| !concern.stops), "{concerns:?}");
    let selection = database.selection(&*host, "t", &["id"], 10).await;
    let fault = refused(&database, &*host, &selection).await;
    assert!(fault.to_string().contains("of character set ucs2"), "{fault}");
    assert!(about(&check("m").await, "MyISAM").is_some_and(|concern| !concern.stops));
    assert!(about(&check("v").await, "view").is_some_and(|concern| concern.stops));
    let concerns = check("fine").await;
    assert!(concerns.iter().all(|concern| !concern.stops), "{concerns:?}");
}
