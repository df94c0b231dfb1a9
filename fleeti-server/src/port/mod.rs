//! The HTTP/1.1 ports: actix-web over connections that come through the same doors as MQTT. No
//! HTTP/2: it is not needed, and its streams and windows would need limits of their own.
//!
//! Code map: [`connection`] (timeouts of a connection) · [`deadline`] (timeouts of request bodies).

pub mod connection;
pub mod deadline;

use crate::error::AppError;
use crate::gateway;
use crate::gateway::doors::{Arrived, Peer};
use crate::gateway::state::GatewayRef;
use crate::http::device::on_connect;
use actix_http::{HttpServiceBuilder, Request};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service,
    map_config,
};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Response, Server};
use connection::{Activity, Connection, Gate, Transport};
use fleeti_control::places::Origin;
use fleeti_core::wire::HTTP_KEEP_ALIVE;
use fleeti_core::wire::mqtt::ALPN_MQTT;
use fleeti_core::wire::problem::Code;
use rustls::ServerConfig;
use std::fmt::Debug;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The clients of a port.
#[derive(Clone)]
pub enum Clients {
    /// Devices, enrolled or not. Also serves MQTT if the client requests [`ALPN_MQTT`].
    Devices(Arc<ServerConfig>),
    /// Operators and automation. Without a TLS configuration, plain HTTP. The configuration is
    /// fetched for every connection.
    People(Option<TlsOfNow>),
}

/// Returns the TLS configuration for a new connection.
pub type TlsOfNow = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// File descriptors of connections that are accepted but not yet at the doors.
const IN_TRANSIT: usize = 64;

/// Serves an application on a listener, in one thread.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve<F, I, S, B>(
    listener: TcpListener,
    state: GatewayRef,
    clients: Clients,
    application: F,
) -> std::io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Future: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let address = listener.local_addr()?;
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    let budget = state.doors.budget;
    let places = budget.silent
        + budget.quiet
        + budget.waiting
        + budget.handshakes
        + budget.anonymous
        + budget.downloads
        + budget.api;
    let most = IN_TRANSIT
        + places
        + if matches!(clients, Clients::Devices(_)) { budget.sessions } else { 0 };
    let first = match clients {
        Clients::Devices(_) => state.limits.handshake_ms,
        Clients::People(_) => state.limits.hello_ms,
    };
    let server = builder.workers(1).max_concurrent_connections(most).disable_signals().listen(
        "fleeti",
        listener,
        move || {
            let (application, state, clients, stopping) =
                (application.clone(), Arc::clone(&state), clients.clone(), stopping.clone());
            fn_factory(move || {
                let is_secure = !matches!(clients, Clients::People(None));
                let factory = application().into_factory().map_err(|e| e.into().error_response());
                let config =
                    move |()| AppConfig::__priv_test_new(is_secure, address.to_string(), address);
                let stopping = stopping.clone();
                let http = HttpServiceBuilder::default()
                    .keep_alive(HTTP_KEEP_ALIVE)
                    .client_request_timeout(Duration::from_millis(first))
                    .client_disconnect_timeout(Duration::from_secs(1))
                    .graceful_shutdown_signal(move || {
                        let stopping = stopping.clone();
                        async move { stopping.notified().await }
                    })
                    .on_connect_ext(on_connect)
                    .h1(map_config(factory, config))
                    .new_service(());
                let (state, clients) = (Arc::clone(&state), clients.clone());
                async move {
                    let http = Rc::new(http.await?);
                    Ok::<_, ()>(fn_service(move |stream: TcpStream| {
                        let (http, state, clients) =
                            (Rc::clone(&http), Arc::clone(&state), clients.clone());
                        async move {
                            connected(&*http, &state, &clients, stream).await;
                            Ok::<_, ()>(())
                        }
                    }))
                }
            })
        },
    )?;
    Ok(server.run())
}

async fn connected<H>(http: &H, state: &GatewayRef, clients: &Clients, stream: TcpStream)
where
    H: Service<(Connection, Option<SocketAddr>)>,
{
    let Ok(address) = stream.peer_addr() else { return };
    let (doors, evicted) = (&state.doors, Arc::<Notify>::default());
    let (silent, _) = doors.knock(address);
    // An anonymous connection enters these places with its first whole request.
    let quiet = |key: &Origin, places| {
        Gate::Quiet(doors.quiet.enter_newest(key, Arc::clone(&evicted)).0, Arc::clone(places))
    };
    let (transport, peer, gate) = match clients {
        Clients::Devices(config) => {
            let Some(arrived) = doors.handshake(stream, silent, || Arc::clone(config)).await else {
                return;
            };
            if arrived.stream.get_ref().1.alpn_protocol() == Some(ALPN_MQTT) {
                return gateway::serve(state, arrived).await;
            }
            let Arrived { stream, handshake } = arrived;
            let peer = Peer::of(&stream);
            let gate =
                match peer.as_ref().map(|p| doors.downloads.enter(&p.device, Arc::clone(&evicted)))
                {
                    Some(Ok(place)) => Gate::Device(place),
                    Some(Err(full)) => Gate::Refused(
                        full,
                        Some(doors.quiet.enter_newest(handshake.key(), Arc::clone(&evicted)).0),
                    ),
                    None => quiet(handshake.key(), &doors.anonymous),
                };
            (Transport::Tls(stream), peer, gate)
        }
        Clients::People(Some(config)) => {
            let Some(Arrived { stream, handshake }) =
                doors.handshake(stream, silent, || config()).await
            else {
                return;
            };
            (Transport::Tls(stream), None, quiet(handshake.key(), &doors.api))
        }
        Clients::People(None) => {
            if !doors.speaks(&stream, &silent).await {
                return;
            }
            let gate = quiet(silent.key(), &doors.api);
            drop(silent);
            (Transport::Plain(stream), None, gate)
        }
    };
    let (idle, stall) = (
        Duration::from_millis(doors.limits.idle_ms),
        Duration::from_millis(doors.limits.download_ms),
    );
    let activity = Activity::new(gate, Arc::clone(&evicted));
    let connection = Connection::new(transport, Rc::clone(&activity), peer, idle, stall);
    let may_answer = tokio::select! {
        _ = http.call((connection, Some(address))) => None,
        () = evicted.notified() => doors.leaving.try_acquire().ok(),
    };
    activity.close(may_answer.is_some().then(|| gave_way().http1())).await;
}

fn gave_way() -> AppError {
    let text =
        "too many connections: this one was the oldest of its address, and gave way to another";
    AppError::new(Code::Unavailable, text).hint("try again in a moment")
}
