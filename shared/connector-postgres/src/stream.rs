//! An open COPY that hands over pages. A task owns the connection: it hashes a page while the one before is compared.
//! It reads only when it is asked, so that a stream holds no more than one page and what the socket buffers.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use fides_core::{Fault, Key, KeyRange, Page, PageBuilder, Version};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::connect::{Session, Sessions};
use crate::copy_text::Lines;
use crate::fault::fault;

/// Bytes of rows on a page; a page ends after the row that reaches it.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// What every page of a snapshot has in common.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) version: Version,
    pub(crate) lines: Arc<Lines>,
    pub(crate) seed: u64,
    pub(crate) page_records_max: usize,
}

impl Pages {
    /// Reads rows until the page is full or the COPY has ended; says which.
    async fn fill(&self, rows: &mut Rows<'_>, page: &mut PageBuilder, records_max: usize) -> Result<bool, Fault> {
        while let Some(row) = rows.next().await? {
            page.push(|keys, bytes| {
                self.lines.key(&row, keys)?;
                bytes.extend_from_slice(&row);
                Ok(())
            })
            .map_err(|fault| self.named(fault))?;
            if page.len() >= records_max || page.row_bytes() >= PAGE_BYTES_MAX {
                return match rows.peek().await? {
                    Some(next) => self.ascend(&row, next).map(|()| true),
                    None => Ok(false),
                };
            }
        }
        Ok(false)
    }

    async fn next(&self, rows: &mut Rows<'_>) -> Result<Page, Fault> {
        let mut page = PageBuilder::new(self.seed);
        let more = self.fill(rows, &mut page, self.page_records_max).await?;
        Ok(page.finish(self.version, self.lines.clone(), more))
    }

    /// Refuses a key that is not unique where a page ends in between: the next page may come from another COPY, which
    /// starts after the key and would not see its second record.
    fn ascend(&self, last: &[u8], next: &[u8]) -> Result<(), Fault> {
        let mut pair = PageBuilder::new(0);
        let mut push = |row| pair.push(|keys, _| self.lines.key(row, keys));
        push(last).and_then(|()| push(next)).map_err(|fault| self.named(fault))
    }

    fn named(&self, fault: Fault) -> Fault {
        fault.at(format!("table {}", self.lines.place))
    }

    /// Everything that a COPY gives, added to `page`.
    pub(crate) async fn read_all(&self, session: &mut Session, sql: &str, page: &mut PageBuilder) -> Result<(), Fault> {
        let mut rows = Rows::open(session, sql, &self.lines.place).await?;
        while self.fill(&mut rows, page, usize::MAX).await? {}
        Ok(())
    }
}

/// The rows of a running COPY.
pub(crate) struct Rows<'c> {
    chunks: BoxStream<'c, Result<Bytes, sqlx::Error>>,
    /// What has arrived and was not handed over.
    rest: Bytes,
    peeked: Option<Bytes>,
    place: String,
}

impl<'c> Rows<'c> {
    pub(crate) async fn open(session: &'c mut Session, sql: &str, place: &str) -> Result<Self, Fault> {
        let chunks = session.connection().copy_out_raw(sql).await.map_err(|error| reading(place, error))?;
        Ok(Self { chunks, rest: Bytes::new(), peeked: None, place: place.to_owned() })
    }

    /// The next row, without its newline. The end is the server's word, never a connection that broke.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(row) = self.peeked.take() {
            return Ok(Some(row));
        }
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let mut row = self.rest.split_to(end + 1);
                row.truncate(end);
                return Ok(Some(row));
            }
            match self.chunks.next().await {
                // Postgres sends one row in one message; the protocol does not promise it.
                Some(Ok(chunk)) if self.rest.is_empty() => self.rest = chunk,
                Some(Ok(chunk)) => {
                    let mut joined = BytesMut::from(&*self.rest);
                    joined.extend_from_slice(&chunk);
                    self.rest = joined.freeze();
                }
                Some(Err(error)) => return Err(reading(&self.place, error)),
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(Fault::transient(format!("table {}: a COPY ended inside a row", self.place))),
            }
        }
    }

    /// The next row, which stays the next one.
    async fn peek(&mut self) -> Result<Option<&Bytes>, Fault> {
        if self.peeked.is_none() {
            self.peeked = self.next().await?;
        }
        Ok(self.peeked.as_ref())
    }
}

fn reading(place: &str, error: sqlx::Error) -> Fault {
    fault(&format!("reading table {place}"), error)
}

/// An open stream; dropping it closes its connection.
pub(crate) struct Stream {
    requests: mpsc::Sender<oneshot::Sender<Result<Page, Fault>>>,
    task: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A task that has come to its end gives its connection back; one in the middle of a COPY closes it.
        if !self.requests.is_closed() {
            self.task.abort();
        }
    }
}

impl Stream {
    /// Starts a COPY in a session whose transaction sees the snapshot.
    pub(crate) fn open(session: Session, sql: String, pages: Pages) -> Self {
        let (requests, asked) = mpsc::channel(1);
        Self { requests, task: tokio::spawn(serve(session, sql, pages, asked)) }
    }

    /// The next page. A stream that has failed or ended has none.
    pub(crate) async fn next(&self) -> Result<Page, Fault> {
        let (answer, answered) = oneshot::channel();
        let gone = || Fault::transient("a reader of the snapshot ended before its page was read");
        self.requests.send(answer).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn serve(
    mut session: Session,
    sql: String,
    pages: Pages,
    mut asked: mpsc::Receiver<oneshot::Sender<Result<Page, Fault>>>,
) {
    let Some(mut answer) = asked.recv().await else { return };
    {
        let mut rows = match Rows::open(&mut session, &sql, &pages.lines.place).await {
            Ok(rows) => rows,
            Err(fault) => return drop(answer.send(Err(fault))),
        };
        loop {
            let page = pages.next(&mut rows).await;
            let (failed, ended) = (page.is_err(), page.as_ref().is_ok_and(|page| page.next.is_none()));
            if ended {
                // Before the answer: a stream that has ended is not aborted when it is dropped.
                asked.close();
            }
            if answer.send(page).is_err() || failed {
                return;
            }
            if ended {
                break;
            }
            answer = match asked.recv().await {
                Some(answer) => answer,
                None => return,
            };
        }
    }
    session.roll_back().await;
}

/// The connections that read snapshots, and the streams that wait on some of them.
pub(crate) struct Readers {
    pub(crate) sessions: Arc<Sessions>,
    waiting: Mutex<Vec<Waiting>>,
}

/// A stream between two pages.
struct Waiting {
    snapshot: u64,
    range: KeyRange,
    after: Key,
    stream: Stream,
}

impl Readers {
    pub(crate) fn new(sessions: Arc<Sessions>) -> Arc<Self> {
        Arc::new(Self { sessions, waiting: Mutex::default() })
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of a snapshot that stands exactly after `after` in `range`.
    pub(crate) fn resume(&self, snapshot: u64, range: &KeyRange, after: &Key) -> Option<Stream> {
        let mut waiting = self.waiting();
        let stands = |one: &Waiting| one.snapshot == snapshot && one.after == *after && one.range == *range;
        let at = waiting.iter().position(stands)?;
        Some(waiting.remove(at).stream)
    }

    /// Keeps a stream for the page after `after`.
    pub(crate) fn keep(&self, snapshot: u64, range: &KeyRange, after: &Key, stream: Stream) {
        self.waiting().push(Waiting { snapshot, range: range.clone(), after: after.clone(), stream });
    }

    /// Closes the streams of a snapshot.
    pub(crate) fn forget(&self, snapshot: u64) {
        self.waiting().retain(|one| one.snapshot != snapshot);
    }

    /// A session; when none is free, the stream that has waited longest gives up its own.
    pub(crate) async fn take(&self) -> Result<Session, Fault> {
        let evict = || {
            let mut waiting = self.waiting();
            if !waiting.is_empty() {
                waiting.remove(0);
            }
        };
        self.sessions.take(evict).await
    }
}
