use fides_core::Fault;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The one mapping of Redis' errors to fault kinds (L9). Nothing here is ever the fault of a record.
pub(crate) fn fault(place: &str, error: RedisError) -> Fault {
    if error.is_timeout() {
        return Fault::transient(format!("Redis {place} did not answer in time")).because(error);
    }
    match error.kind() {
        ErrorKind::Io if error.is_connection_dropped() && !error.is_connection_refusal() => {
            Fault::transient(format!("the connection to Redis {place} was lost"))
        }
        ErrorKind::Io => Fault::unavailable(format!("Redis {place} cannot be reached"))
            .advise("look whether it runs, and whether host, port and TLS are right"),
        ErrorKind::AuthenticationFailed => refused(place),
        ErrorKind::Server(kind) => of_server(place, kind),
        ErrorKind::Extension => of_code(place, error.code().unwrap_or_default()),
        _ => strange(place, "an answer has another form"),
    }
    .because(error)
}

/// Something is stored that this release did not write.
pub(crate) fn strange(place: &str, what: &str) -> Fault {
    Fault::unavailable(format!("Redis {place}: {what} than this release expects"))
        .advise("let nothing else use the same prefix of keys, and all services be of one release")
}

fn refused(place: &str) -> Fault {
    Fault::unavailable(format!("Redis {place} refuses us")).advise("look at user, password and ACL")
}

fn of_server(place: &str, kind: ServerErrorKind) -> Fault {
    use ServerErrorKind::{
        Ask, BusyLoading, ClusterDown, CrossSlot, ExecAbort, MasterDown, Moved, NoPerm, ReadOnly, TryAgain,
    };
    match kind {
        BusyLoading => Fault::unavailable(format!("Redis {place} still loads its data")),
        ReadOnly => Fault::unavailable(format!("Redis {place} is read-only")).advise("name the primary, not a replica"),
        ClusterDown | MasterDown => Fault::unavailable(format!("Redis {place} has no primary that answers")),
        Moved | Ask | TryAgain | CrossSlot => Fault::unavailable(format!("Redis {place} is part of a cluster"))
            .advise("name a Redis that is not: clusters are not supported yet"),
        NoPerm => refused(place),
        ExecAbort => Fault::transient(format!("Redis {place} gave up a transaction")),
        _ => Fault::unavailable(format!("Redis {place} refused a command")),
    }
}

fn of_code(place: &str, code: &str) -> Fault {
    match code {
        "NOAUTH" | "WRONGPASS" => refused(place),
        "OOM" => Fault::unavailable(format!("Redis {place} is out of memory"))
            .advise("raise maxmemory; with an eviction policy other than noeviction it would lose marks instead"),
        "MISCONF" => Fault::unavailable(format!("Redis {place} cannot write to its disk"))
            .advise("look for a full or failing disk: it goes on by itself"),
        "BUSY" => Fault::transient(format!("Redis {place} is busy with a script")),
        "NOREPLICAS" => Fault::unavailable(format!("Redis {place} lacks the replicas that it must write to")),
        "WRONGTYPE" => strange(place, "a key holds another type"),
        "FIDESGONE" => Fault::unavailable(format!(
            "Redis {place}: a bucket of marks is gone, a part of the data was lost"
        ))
        .advise("set maxmemory-policy to noeviction, then delete the keys of this prefix: everything is compared anew"),
        "FIDESFORMAT" => {
            Fault::unavailable(format!("Redis {place}: a bucket of marks has a format that this release does not know"))
                .advise("upgrade this service")
        }
        _ => Fault::unavailable(format!("Redis {place} refused a command")),
    }
}
