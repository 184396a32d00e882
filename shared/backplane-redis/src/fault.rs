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

/// How a part of the marks that is lost or damaged is given up, so that nothing trusts the rest (L11).
pub(crate) const GIVE_UP: &str = "set maxmemory-policy to noeviction, then delete the key 'incarnation' of this prefix and all \
     keys of this pipeline: the next import compares everything";

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
        "FIDESGONE" => {
            Fault::unavailable(format!("Redis {place}: a bucket of marks is gone, a part of the data was lost"))
                .advise(GIVE_UP)
        }
        "FIDESFORMAT" => {
            Fault::unavailable(format!("Redis {place}: a bucket of marks has a format that this release does not know"))
                .advise("upgrade this service")
        }
        _ => Fault::unavailable(format!("Redis {place} refused a command")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fides_core::FaultKind;
    use std::io;

    #[test]
    fn every_error_has_its_kind_and_none_is_a_records_fault() {
        use FaultKind::{Transient, Unavailable};
        let code = |code: &str| redis::make_extension_error(code.to_owned(), None);
        let of = |kind: ErrorKind| RedisError::from((kind, "said by a test"));
        let io = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        let cases = [
            (io(io::ErrorKind::ConnectionRefused), Unavailable, "cannot be reached"),
            (io(io::ErrorKind::ConnectionReset), Transient, "was lost"),
            (io(io::ErrorKind::BrokenPipe), Transient, "was lost"),
            (io(io::ErrorKind::UnexpectedEof), Transient, "was lost"),
            (io(io::ErrorKind::TimedOut), Transient, "in time"),
            (of(ErrorKind::AuthenticationFailed), Unavailable, "refuses us"),
            (of(ErrorKind::Server(ServerErrorKind::BusyLoading)), Unavailable, "loads"),
            (of(ErrorKind::Server(ServerErrorKind::ReadOnly)), Unavailable, "read-only"),
            (of(ErrorKind::Server(ServerErrorKind::ClusterDown)), Unavailable, "no primary"),
            (of(ErrorKind::Server(ServerErrorKind::Moved)), Unavailable, "cluster"),
            (of(ErrorKind::Server(ServerErrorKind::NoPerm)), Unavailable, "ACL"),
            (of(ErrorKind::Server(ServerErrorKind::ResponseError)), Unavailable, "refused a command"),
            (of(ErrorKind::UnexpectedReturnType), Unavailable, "another form"),
            (code("NOAUTH"), Unavailable, "refuses us"),
            (code("OOM"), Unavailable, "maxmemory"),
            (code("MISCONF"), Unavailable, "disk"),
            (code("BUSY"), Transient, "busy"),
            (code("WRONGTYPE"), Unavailable, "another type"),
            (code("FIDESGONE"), Unavailable, "lost"),
            (code("FIDESFORMAT"), Unavailable, "upgrade"),
            (code("UNHEARDOF"), Unavailable, "refused a command"),
        ];
        for (error, kind, said) in cases {
            let case = error.to_string();
            let fault = fault("127.0.0.1:6379", error);
            assert!(fault.kind == kind && fault.to_string().contains(said), "{case}: {fault:?}");
            assert!(fault.to_string().contains("127.0.0.1:6379"), "{fault}");
        }
    }
}
