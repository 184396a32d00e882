//! Changes of an older epoch whose marks were lost: the host's present state takes their place (L11).

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fides_core::port::{Host, Lineage, Opened, Snapshot};
use fides_core::{
    Fault, Field, Kind, Namespace, Origin, PipelineId, Selection, Shape, Table, Value, Version, encode_row,
};
use fides_engine::{current_epoch, establish, publish};
use fides_testkit::fake::{FakeHost, FakeMapper};

use crate::stand::{Stand, upsert};

#[tokio::test(start_paused = true)]
async fn a_refreshed_record_is_written_in_the_shape_that_it_was_mapped_with() {
    let stand = Stand::new(3);
    let process = stand.process("a").await;
    process.copy().await;
    // Queued by a release whose mapping had two fields.
    let fields = ["id", "label"].map(|name| Field { name: name.into(), kind: Kind::String });
    let old = Arc::new(Shape { fields: fields.into(), key: vec![0] });
    let mut row = Vec::new();
    encode_row(&mut row, &[Value::I64(1), Value::String("old".into())]);
    let epoch = current_epoch(&process.pipeline).await.unwrap();
    let queued = vec![upsert(1, Version::scan(epoch, 1 << 40), row)];
    publish(&process.pipeline, &old, Origin::Import, queued).await.unwrap();
    stand.host.commit(&[(1, Some(5))]);
    stand.disk.lose_everything();
    establish(&process.pipeline).await.unwrap();

    let _consumers = process.consume();
    process.settle().await;
    assert_eq!(process.pipeline.backplane.dead.count(&process.pipeline.id).await.unwrap(), 0);
    assert_eq!(stand.document(1).unwrap(), FakeMapper::new(1).document(1, 5).unwrap());
}

/// A host whose connection must be told that another server answers now, as a connector does that watches for failovers.
struct Watchful {
    host: FakeHost,
    known: Mutex<Option<Lineage>>,
}

#[async_trait]
impl Host for Watchful {
    async fn namespaces(&self) -> Result<Vec<Namespace>, Fault> {
        self.host.namespaces().await
    }

    async fn describe(&self, namespace: &Namespace) -> Result<Option<Table>, Fault> {
        self.host.describe(namespace).await
    }

    async fn lineage(&self) -> Result<Lineage, Fault> {
        let lineage = self.host.lineage().await?;
        *self.known.lock().unwrap() = Some(lineage.clone());
        Ok(lineage)
    }

    async fn snapshot(&self, selection: &Selection, drawn: Version) -> Result<Arc<dyn Snapshot>, Fault> {
        let lineage = self.host.lineage().await?;
        if self.known.lock().unwrap().as_ref().is_some_and(|known| *known != lineage) {
            return Err(Fault::unavailable("the lineage changed"));
        }
        self.host.snapshot(selection, drawn).await
    }

    async fn log(&self, selection: &Selection, reader: &PipelineId, after: Option<u64>) -> Result<Opened, Fault> {
        self.host.log(selection, reader, after).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_only_consumes_survives_a_failover_of_the_host() {
    let stand = Stand::new(3);
    let mut consumer = stand.process("consumer").await;
    let watchful = Arc::new(Watchful { host: stand.host.clone(), known: Mutex::default() });
    consumer.pipeline.host = watchful;
    let importer = stand.process("importer").await;
    establish(&consumer.pipeline).await.unwrap();
    let epoch = current_epoch(&importer.pipeline).await.unwrap();
    let _consumers = consumer.consume();
    consumer.settle().await;

    stand.host.set_lineage("fake-2");
    establish(&importer.pipeline).await.unwrap();
    let queued = vec![upsert(1, Version::scan(epoch, 1), FakeMapper::new(1).document(1, 0).unwrap())];
    publish(&importer.pipeline, importer.pipeline.mapper.shape(), Origin::Import, queued).await.unwrap();
    importer.settle().await;
    assert_eq!(stand.document(1).unwrap(), FakeMapper::new(1).document(1, 1).unwrap());
}
