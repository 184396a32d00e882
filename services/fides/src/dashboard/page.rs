//! The page's own files: they are part of the program, hold no data, and load nothing from anywhere else.

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, Response};
use axum::routing::get;

/// Nothing but our own files; no script or style in the document, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

macro_rules! files {
    ($($path:literal $kind:literal $file:literal;)+) => {
        &[$(($path, $kind, include_str!(concat!("../../assets/dashboard/", $file))),)+]
    };
}

/// Path, content type, content.
const FILES: &[(&str, &str, &str)] = files! {
    "/" "text/html; charset=utf-8" "index.html";
    "/page.css" "text/css; charset=utf-8" "page.css";
    "/icon.svg" "image/svg+xml" "icon.svg";
    "/main.js" "text/javascript; charset=utf-8" "main.js";
    "/api.js" "text/javascript; charset=utf-8" "api.js";
    "/dom.js" "text/javascript; charset=utf-8" "dom.js";
    "/history.js" "text/javascript; charset=utf-8" "history.js";
    "/chart.js" "text/javascript; charset=utf-8" "chart.js";
    "/pipelines.js" "text/javascript; charset=utf-8" "pipelines.js";
    "/overview.js" "text/javascript; charset=utf-8" "overview.js";
    "/letters.js" "text/javascript; charset=utf-8" "letters.js";
    "/reimport.js" "text/javascript; charset=utf-8" "reimport.js";
};

/// A route for each file.
pub fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES
        .iter()
        .fold(Router::new(), |router, (path, kind, content)| router.route(path, get(async move || file(kind, content))))
}

fn file(kind: &'static str, content: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::from(content));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// What every answer carries.
pub fn guard(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_load_each_other_and_nothing_else() {
        let paths: Vec<&str> = FILES.iter().map(|(path, ..)| *path).collect();
        for (path, _, content) in FILES {
            for foreign in ["http://", "https://", "//cdn", "@import", "innerHTML", "outerHTML", "insertAdjacentHTML"] {
                let found = content.replace("http://www.w3.org/2000/svg", "");
                assert!(!found.contains(foreign), "{path} contains {foreign}");
            }
            let loads = ["src=\"", "href=\"", "from \"./"].iter().flat_map(|mark| content.split(mark).skip(1));
            for named in loads.filter_map(|rest| rest.split('"').next()).filter(|named| !named.starts_with('#')) {
                let named = format!("/{}", named.trim_start_matches("./").trim_start_matches('/'));
                assert!(paths.contains(&named.as_str()), "{path} loads {named}");
            }
        }
        let (_, _, html) = FILES[0];
        assert!(
            !html.contains("<style") && !html.contains("style=") && !html.contains("onclick"),
            "the policy refuses it"
        );
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
    }
}
