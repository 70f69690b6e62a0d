//! The admin interface over HTTP: metrics, health, statistics, keys, invalidation, and a web page.
//!
//! It runs on one thread besides the workers, and uses the cache like any other client.
//!
//! It speaks no TLS, which a tunnel or a proxy can add, and it does not change settings.

mod access;
mod answer;
mod connections;
mod events;
mod families;
mod invalidate;
mod keys;
mod name;
mod prometheus;
mod stats;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use self::access::Access;
use self::answer::{Problem, document, json_document};
use self::connections::{Client, Connections};
use crate::metrics::{Count, SourceState};
use crate::options::AdminOptions;
use crate::process::{Inherited, logging};
use crate::server::View;

/// A bound socket that does not accept connections yet.
pub struct Admin {
    access: Arc<Access>,
    listener: TcpListener,
    /// The sources of events that must be live for the server to be ready.
    ready_needs: Vec<String>,
}

/// The state shared by all requests.
struct Shared {
    access: Arc<Access>,
    ready_needs: Vec<String>,
    view: View,
}

type SharedState = State<Arc<Shared>>;

impl Admin {
    /// Inherits or binds the socket that `options` ask for, and reads the token.
    ///
    /// # Errors
    /// If the token file is unusable, or the socket cannot be bound.
    pub fn bind(options: &AdminOptions, inherited: &mut Inherited) -> io::Result<Option<Admin>> {
        let Some(address) = options.address else { return Ok(None) };
        let named = |error| io::Error::other(format!("cannot serve --admin {address}: {error}"));
        let bound = inherited.take_admin(address).map_or_else(|| TcpListener::bind(address), Ok);
        let listener = bound.map_err(named)?;
        listener.set_nonblocking(true)?;
        let access = Access::new(listener.local_addr()?, options.token_file.clone())?;
        Ok(Some(Admin { access: access.into(), listener, ready_needs: options.ready_needs.clone() }))
    }

    /// The socket, for a successor process.
    pub fn socket(&self) -> &TcpListener {
        &self.listener
    }

    /// Whether requests need a token.
    pub fn has_token(&self) -> bool {
        self.access.token_file.is_some()
    }

    /// Reads the token again, if it comes from a file.
    ///
    /// # Errors
    /// If the file is unusable; then the old token stays.
    pub fn read_token(&self) -> io::Result<()> {
        self.access.read_token()
    }

    /// The address that it listens at, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.access.address
    }
}

/// Serves requests until this is dropped; does nothing without a socket.
///
/// # Errors
/// If the socket cannot be registered with the runtime.
pub async fn serve(admin: Option<&Admin>, view: View) -> io::Result<Infallible> {
    let Some(Admin { access, listener, ready_needs }) = admin else { return pending().await };
    let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
    let router =
        router(Arc::new(Shared { access: Arc::clone(access), ready_needs: ready_needs.clone(), view }));
    let mut connections = Connections::default();
    loop {
        connections.make_room().await;
        match listener.accept().await {
            Err(error) => {
                if let Some(suppressed) = FAILURES.admit(Instant::now()) {
                    tracing::warn!(%error, suppressed, "cannot accept at --admin");
                }
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
            Ok((stream, peer)) => {
                let client = Client::new(peer.ip());
                connections.add(client.clone(), converse(stream, router.clone().layer(Extension(client))));
            }
        }
    }
}

/// Serves one connection, for a limited time.
async fn converse(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_MAX).max_buf_size(HEADER_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // Errors of a connection concern only its peer.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(CONNECTION_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(REQUEST_MAX, connection).await;
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page).options(async || PLAIN_OK))
        .route("/config", get(async |State(shared): SharedState| json_document(&stats::config(&shared.view))))
        .route("/events/{name}", post(events))
        .route("/admin/invalidate", post(invalidate))
        .route("/healthz", get(async || PLAIN_OK).options(async || PLAIN_OK))
        .route("/invalidate", post(invalidate))
        .route("/keys/{*key}", get(key))
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready).options(ready))
        .route(
            "/stats.json",
            get(async |State(shared): SharedState| json_document(&stats::stats(&shared.view))),
        )
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not found: docs/admin.md lists the paths"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed: this path needs another method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared)
}

/// Checks access and passes the request on; answers requests that time out.
async fn admit(
    State(shared): SharedState,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    // HAProxy's check without further configuration is `OPTIONS /`, and asks what a health check asks.
    let path = match (request.method(), request.uri().path()) {
        (&Method::OPTIONS, "/") => "/healthz",
        (_, path) => path,
    };
    if let Err(problem) = shared.access.check(path, request.headers()) {
        if problem.status == StatusCode::UNAUTHORIZED {
            shared.view.counters().add(Count::AuthErrors);
            // A request without a token is not a guess: browsers send one before they know that a token is
            // required.
            if request.headers().contains_key(header::AUTHORIZATION) {
                sleep(shared.view.wrong_password(client.address)).await;
            }
        }
        return problem.into_response();
    }
    if shared.access.has_token(request.headers()) {
        client.has_token.store(true, Ordering::Relaxed);
    }
    let _answering = client.answering();
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the request timed out").into_response();
    timeout(REQUEST_MAX, next.run(request)).await.unwrap_or_else(late)
}

async fn invalidate(
    State(shared): SharedState,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = whole(body)?;
    invalidate::invalidate(&shared.view, client.address, &headers, &body).map(|done| json_document(&done))
}

async fn events(
    State(shared): SharedState,
    Extension(client): Extension<Client>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = whole(body)?;
    let done = events::post(&shared.view, client.address, &name, &headers, &body).await?;
    Ok(json_document(&done))
}

fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|why| match why.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => Problem::new(status, "the body has more than 1 MiB"),
        status => Problem::new(status, format!("cannot read the body: {why}")),
    })
}

/// Uses the raw path, because a key may be any bytes.
async fn key(State(shared): SharedState, uri: Uri) -> Result<Response, Problem> {
    let encoded = uri.path().strip_prefix("/keys/").unwrap_or_default();
    keys::key(&shared.view, encoded).map(|known| json_document(&known))
}

async fn metrics(State(shared): SharedState) -> Response {
    document(StatusCode::OK, prometheus::KIND, prometheus::metrics(&shared.view))
}

async fn ready(State(shared): SharedState) -> Result<&'static str, Problem> {
    if shared.view.is_stopping() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"));
    }
    if shared.view.is_starting() {
        let why = "the server is starting: it waits for the sources of events";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    for name in &shared.ready_needs {
        let source = shared.view.metrics().sources.of(name);
        if source.is_none_or(|source| source.state() != SourceState::Live) {
            let why = format!("the source {name:?} is not live");
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
        }
    }
    Ok(PLAIN_OK)
}

/// The page. Only its own script and style may run: they carry an unpredictable number.
async fn page() -> Response {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness");
    let nonce = format!("{:032x}", u128::from_ne_bytes(random));
    let policy = format!(
        "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; \
         img-src data:; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'"
    );
    let page = Body::from(PAGE.replace("{nonce}", &nonce));
    let mut response = document(StatusCode::OK, "text/html; charset=utf-8", page);
    let name = HeaderName::from_static("content-security-policy");
    response.headers_mut().insert(name, policy.parse().expect("it is text"));
    response
}

const PAGE: &str = include_str!("page.html");
const PLAIN_OK: &str = "ok\n";
/// A thousand names of each kind fit, unless all of them are long.
const BODY_BYTES_MAX: usize = 1 << 20;
const HEADER_BYTES_MAX: usize = 16 << 10;
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// The time limit for receiving and answering a request.
const REQUEST_MAX: Duration = Duration::from_secs(10);
static FAILURES: logging::Limit = logging::Limit::new();
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
