//! Start and stop of the server.

use crate::admin_tls::{self, AdminTls};
use crate::backup::restore;
use crate::config::{self, Config, account_secrets};
use crate::gateway::doors::Doors;
use crate::gateway::state::{Gateway, GatewayRef};
use crate::gateway::tls::{TlsState, https_config};
use crate::limits::raise_descriptors;
use crate::port::{Clients, TlsOfNow, deadline, serve};
use crate::{api, gateway, http, pages, webhooks};
use actix_web::App as WebApp;
use actix_web::dev::{Server as WebServer, ServerHandle};
use actix_web::middleware::{Condition, DefaultHeaders, from_fn};
use actix_web::web::Data;
use anyhow::{Context, Result};
use fleeti_control::builds::local_worker;
use fleeti_control::clock::new_id;
use fleeti_control::context::ContextRef;
use fleeti_control::pki::Pki;
use fleeti_control::ports::Addresses;
use fleeti_control::start::{self, Parts};
use fleeti_store::{Db, Holder, StoreError};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A running server.
pub struct Server {
    /// The addresses on which it listens.
    pub addresses: Addresses,
    /// The fingerprint that clients of the API pin; `None` for plain HTTP.
    pub api_fingerprint: Option<String>,
    /// The control plane.
    pub control: ContextRef,
    /// The ports of devices.
    pub gateway: GatewayRef,
    http: Vec<ServerHandle>,
    tasks: Vec<JoinHandle<()>>,
}

/// Listening sockets, and the addresses of the ports.
struct Ports {
    addresses: Addresses,
    api: TcpListener,
    https: TcpListener,
    mqtt: TcpListener,
}

impl Ports {
    fn bind(config: &Config) -> Result<Self> {
        let (api_address, api) = listen("API", config.api)?;
        let (https_address, https) = listen("device port", config.https)?;
        let (mqtt_address, mqtt) = listen("MQTT", config.mqtt)?;
        let addresses = Addresses { api: api_address, https: https_address, mqtt: mqtt_address };
        Ok(Self { addresses, api, https, mqtt })
    }
}

/// How this server names itself to a second one on the same database.
fn this_server(config: &Config) -> Holder {
    Holder {
        id: new_id("server"),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        since_s: config.clock.now_s(),
    }
}

fn listen(what: &str, address: SocketAddr) -> Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind(address).with_context(|| format!("{what}: {address}"))?;
    listener.set_nonblocking(true)?;
    Ok((listener.local_addr()?, listener))
}

/// The port for people: API and web interface.
fn serve_api(
    listener: TcpListener,
    gateway: &GatewayRef,
    addresses: Addresses,
    admin_tls: Option<&AdminTls>,
) -> Result<WebServer> {
    let (control, addresses) = (Data::from(Arc::clone(&gateway.control)), Data::new(addresses));
    let limits = Data::new(gateway.limits);
    let is_tls = admin_tls.is_some();
    let api_tls = admin_tls.map(AdminTls::config).transpose()?.map(|config| {
        let config = Arc::new(config);
        Arc::new(move || Arc::clone(&config)) as TlsOfNow
    });
    Ok(serve(listener, Arc::clone(gateway), Clients::People(api_tls), move || {
        WebApp::new()
            .wrap(Condition::new(is_tls, DefaultHeaders::new().add(admin_tls::STRICT_TRANSPORT)))
            .app_data(control.clone())
            .app_data(limits.clone())
            .app_data(addresses.clone())
            .configure(api::open::routes)
            .configure(api::routes)
            .configure(api::workers::routes)
            .configure(pages::routes)
            .wrap(from_fn(deadline::keep))
    })?)
}

/// The port for devices, HTTPS.
fn serve_devices(listener: TcpListener, gateway: &GatewayRef) -> Result<WebServer> {
    let control = Data::from(Arc::clone(&gateway.control));
    let limits = Data::new(gateway.limits);
    let devices = Clients::Devices(Arc::new(https_config(&gateway.tls)?));
    Ok(serve(listener, Arc::clone(gateway), devices, move || {
        WebApp::new()
            .app_data(control.clone())
            .app_data(limits.clone())
            .configure(http::device::routes)
            .wrap(from_fn(deadline::keep))
    })?)
}

impl Server {
    /// Starts all parts. When this returns, all three ports accept connections.
    ///
    /// # Errors
    /// Names what is missing, and what to do.
    pub async fn start(config: Config) -> Result<Self> {
        restore::check_complete(&config.data)?;
        let pki = Pki::open(&config.data)?;
        let db = Db::connect_active(&config.database(), this_server(&config))
            .await
            .with_context(|| config.database().to_string())?;
        let accounts = account_secrets(&config)?;
        let admin_tls = AdminTls::open(&config.data, config.api, &config.api_tls, &config.names)
            .context("TLS of the API")?;
        let Ports { addresses, api, https, mqtt } = Ports::bind(&config)?;
        let signer = config::signer(&config, config.crl_url(addresses.https))?;
        let settings = config.settings();
        let clock = settings.clock.clone();
        let opened = start::open(
            Parts { settings, pki, db, signer, accounts },
            |identity, access, issuers| TlsState::new(identity, Arc::clone(access), issuers, clock),
        )
        .await?;
        let control = Arc::clone(&opened.cx);
        let gateway = Arc::new(Gateway {
            control: Arc::clone(&control),
            tls: Arc::clone(&opened.ports),
            doors: Doors::new(config.limits, raise_descriptors()),
            sessions: gateway::sessions::Sessions::default(),
            conducts: gateway::conduct::Conducts::default(),
            limits: config.limits,
        });
        let api_server = serve_api(api, &gateway, addresses, admin_tls.as_ref())?;
        let api_fingerprint = admin_tls.as_ref().map(AdminTls::fingerprint);
        let device_server = serve_devices(https, &gateway)?;
        let handles = vec![api_server.handle(), device_server.handle()];
        let mqtt = tokio::net::TcpListener::from_std(mqtt)?;
        let agent = config.local_worker.then(|| local_worker::Agent(config.agent.clone()));
        let mut tasks = opened.run();
        tasks.extend([
            tokio::spawn(async move { drop(api_server.await) }),
            tokio::spawn(async move { drop(device_server.await) }),
            tokio::spawn(gateway::run(Arc::clone(&gateway), mqtt)),
            tokio::spawn(local_worker::run(Arc::clone(&control), agent)),
            tokio::spawn(webhooks::run(Arc::clone(&control))),
            tokio::spawn({
                let gateway = Arc::clone(&gateway);
                async move { gateway::sessions::run(&gateway.sessions, &gateway.control).await }
            }),
        ]);
        tasks.extend(admin_tls.map(|tls| tokio::spawn(tls.run())));
        Ok(Self { addresses, api_fingerprint, control, gateway, http: handles, tasks })
    }

    /// Returns when another server has become active on the database. This one must stop then,
    /// because its caches are out of date.
    pub async fn lease_lost(&self) -> StoreError {
        self.control.db.lease_lost().await
    }

    /// Ends all sessions, waits a moment for requests to finish, and stops.
    pub async fn stop(self) {
        self.control.hub.close().await;
        for handle in &self.http {
            tokio::time::timeout(Duration::from_secs(5), handle.stop(true)).await.ok();
        }
        for task in self.tasks {
            task.abort();
        }
        if let Err(e) = gateway::sessions::flush(&self.gateway.sessions, &self.control).await {
            tracing::warn!("cannot store session state: {}", e.for_log());
        }
        self.control.db.close().await;
    }
}
