use std::future::Future;
use std::sync::Arc;

use fides_core::Fault;

use crate::reply::Reply;
use crate::stack::Call;

/// Gives an attempt up when its time is over. A write that was given up is Unknown, change by change (L5); the
/// server's own deadline lies below (L6), so that it does not land later.
pub(crate) struct Timeout {
    name: Arc<str>,
}

impl Timeout {
    pub fn new(name: &Arc<str>) -> Self {
        Self { name: Arc::clone(name) }
    }

    pub async fn call<R: Reply>(&self, call: Call, next: impl Future<Output = R>) -> R {
        tokio::time::timeout(call.timeout, next).await.unwrap_or_else(|_| {
            let (name, Call { operation, timeout, .. }) = (&self.name, call);
            let fault = Fault::transient(format!("{name}: {operation} gave no answer within {timeout:?}"))
                .advise("look at the load of the store, or raise the limit of the configuration");
            R::abandoned(fault, call.weight)
        })
    }
}
