//! A target that records every document that is written to it.

use sqlx::PgConnection;

use crate::follows::run;
use crate::stand::Stand;

pub struct History {
    target: PgConnection,
}

impl History {
    /// Records from now on, behind what there is.
    pub async fn begin(stand: &Stand) -> Self {
        let mut target = stand.connect().await;
        run(
            &mut target,
            "CREATE TABLE history (seq bigserial PRIMARY KEY, id bigint, is_gone boolean, n bigint, lines jsonb); \
             INSERT INTO history (id, is_gone, n, lines) SELECT id, false, n, lines FROM copy; \
             CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF TG_OP = 'DELETE' THEN \
                     INSERT INTO history (id, is_gone, n, lines) VALUES (old.id, true, old.n, old.lines); \
                 ELSE \
                     INSERT INTO history (id, is_gone, n, lines) VALUES (new.id, false, new.n, new.lines); \
                 END IF; RETURN NULL; END $$; \
             CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON copy FOR EACH ROW EXECUTE FUNCTION record()",
        )
        .await;
        Self { target }
    }

    /// No record, and no line in it, was ever followed by an older state of it; and one that was gone came back only newer.
    pub async fn was_in_order(mut self) {
        const RECORDS: &str = "SELECT count(*), count(*) FILTER (WHERE n < earlier OR (was_gone AND NOT is_gone AND n <= earlier)), \
                count(*) FILTER (WHERE n > earlier), count(*) FILTER (WHERE is_gone) \
            FROM (SELECT *, lag(n) OVER of_one AS earlier, lag(is_gone) OVER of_one AS was_gone \
                  FROM history WINDOW of_one AS (PARTITION BY id ORDER BY seq)) states";
        const LINES: &str = "SELECT count(*), count(*) FILTER (WHERE n < earlier), count(*) FILTER (WHERE n > earlier), 0::bigint \
            FROM (SELECT n, lag(n) OVER (PARTITION BY id, no ORDER BY seq) AS earlier \
                  FROM (SELECT seq, id, (line->>'no')::int AS no, (line->>'n')::bigint AS n \
                        FROM history, jsonb_array_elements(lines) AS line WHERE NOT is_gone) lines) states";
        for (of, sql) in [("records", RECORDS), ("lines", LINES)] {
            let (states, older, newer, gone): (i64, i64, i64, i64) =
                sqlx::query_as(sql).fetch_one(&mut self.target).await.unwrap();
            assert_eq!(older, 0, "of {states} states of {of}, {newer} newer than the one before, {gone} gone");
            assert!(newer > 0 && (gone > 0 || of == "lines"), "{of}: {states} states, {newer} newer, {gone} gone");
        }
    }
}
