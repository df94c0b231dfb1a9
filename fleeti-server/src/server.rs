//! Start and stop of the server.

use crate::admin_tls::{self, AdminTls};
use crate::app::{App, AppRef, now_s};
use crate::config::{self, Config, Pki, admin_token};
use crate::gateway::doors::Doors;
use crate::gateway::hub::Hub;
use crate::gateway::tls::{CheckedCrls, ServerIdentity, TlsState, https_config};
use crate::limits::raise_descriptors;
use crate::port::{Clients, TlsOfNow, deadline, serve};
use crate::service::health::{self, Health};
use crate::service::policy::Policies;
use crate::service::standby::Standby;
use crate::service::trust::{self, Trust};
use crate::service::vault::Vault;
use crate::service::{
    audit, enrollment_batch, evidence, notice, releases, retention, revocation, signing, tpm,
};
use crate::{gateway, http, web, worker};
use actix_web::App as WebApp;
use actix_web::dev::{Server as WebServer, ServerHandle};
use actix_web::middleware::{Condition, DefaultHeaders, from_fn};
use actix_web::web::Data;
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use fleeti_core::wire::problem::Code;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::{certificate, csr};
use fleeti_signer::handle::SignerHandle;
use fleeti_signer::wire::Request;
use fleeti_store::Db;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, broadcast, mpsc};
use tokio::task::JoinHandle;
use utoipa_actix_web::AppExt;

/// Interval at which the CRLs and the server's own certificate are renewed.
const RENEW_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Delay after a failure.
const RENEW_RETRY: Duration = Duration::from_secs(60);

/// The addresses on which a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// API and pages.
    pub api: SocketAddr,
    /// Device port (HTTPS).
    pub https: SocketAddr,
    /// MQTT port.
    pub mqtt: SocketAddr,
}

/// A running server.
pub struct Server {
    /// The addresses on which it listens.
    pub addresses: Addresses,
    /// The fingerprint that clients of the API pin; `None` for plain HTTP.
    pub api_fingerprint: Option<String>,
    /// The shared state.
    pub app: AppRef,
    http: Vec<ServerHandle>,
    tasks: Vec<JoinHandle<()>>,
}

/// Makes a new key and certificate, puts them in use, and stores them for a start without the
/// signing service.
pub(crate) async fn renew_identity(app: &App) -> Result<()> {
    let identity = new_identity(&app.signer, &app.trust.load_full(), &app.config.names).await?;
    Standby::of(&app.config.data).keep_identity(&identity);
    app.tls.renew(identity)
}

/// The server's certificate and the CRLs: new ones from the signing service or, if it does not
/// answer, the stored ones.
async fn credentials(
    config: &Config,
    db: &Db,
    signer: &SignerHandle,
    trust: &Trust,
) -> Result<(ServerIdentity, CheckedCrls, bool)> {
    let standby = Standby::of(&config.data);
    let new = async {
        // A single request shows whether the signing service answers.
        signing::ask(signer, Request::Issuers).await?;
        let crls = revocation::crls(db, signer, trust, config.clock.now_s()).await?;
        anyhow::Ok((new_identity(signer, trust, &config.names).await?, crls))
    };
    match new.await {
        Ok((identity, crls)) => {
            standby.keep_identity(&identity);
            standby.keep_crls(&crls);
            Ok((identity, CheckedCrls::read(crls)?, true))
        }
        Err(e) => {
            let none = "the signing service does not provide certificate and CRLs, and none are stored from an earlier start";
            let kept = standby
                .identity()
                .and_then(|identity| Ok((identity, CheckedCrls::read(standby.crls(trust)?)?)));
            let (identity, crls) = match kept {
                Ok(kept) => kept,
                Err(missing) => return Err(e.context(format!("{none}: {missing:#}"))),
            };
            tracing::error!("{e:#}");
            tracing::error!(
                "the server starts without the signing service, with its stored certificate and CRLs: it serves devices"
            );
            Ok((identity, crls, false))
        }
    }
}

async fn new_identity(
    signer: &SignerHandle,
    trust: &Trust,
    names: &[String],
) -> Result<ServerIdentity> {
    let key = SoftKey::generate(Algorithm::P256)?;
    let issuer = trust.server();
    let request = Request::CertifyServer {
        names: names.to_vec(),
        csr_pem: csr::create(&key)?,
        issuer: Some(issuer.sha256.clone()),
    };
    let leaf = signing::certificate(signer, request).await?;
    let chain = vec![
        CertificateDer::from(leaf),
        CertificateDer::from(certificate::to_der(&issuer.certificate)?),
    ];
    Ok(ServerIdentity {
        chain,
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der()?.to_vec())),
    })
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

fn listen(what: &str, address: SocketAddr) -> Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind(address).with_context(|| format!("{what}: {address}"))?;
    listener.set_nonblocking(true)?;
    Ok((listener.local_addr()?, listener))
}

/// The port for people: API and web interface.
fn serve_api(
    listener: TcpListener,
    app: &AppRef,
    addresses: Addresses,
    admin_tls: Option<&AdminTls>,
) -> Result<WebServer> {
    let (state, addresses) = (Data::new(Arc::clone(app)), Data::new(addresses));
    let is_tls = admin_tls.is_some();
    let api_tls = admin_tls.map(AdminTls::config).transpose()?.map(|config| {
        let config = Arc::new(config);
        Arc::new(move || Arc::clone(&config)) as TlsOfNow
    });
    Ok(serve(listener, Arc::clone(app), Clients::People(api_tls), move || {
        WebApp::new()
            .wrap(Condition::new(is_tls, DefaultHeaders::new().add(admin_tls::STRICT_TRANSPORT)))
            .app_data(state.clone())
            .app_data(addresses.clone())
            .configure(http::open::routes)
            .into_utoipa_app()
            .configure(http::api::routes)
            .into_app()
            .configure(http::worker::routes)
            .configure(web::routes)
            .wrap(from_fn(deadline::keep))
    })?)
}

/// The port for devices, HTTPS.
fn serve_devices(listener: TcpListener, app: &AppRef) -> Result<WebServer> {
    let state = Data::new(Arc::clone(app));
    let devices = Clients::Devices(Arc::new(https_config(app)?));
    Ok(serve(listener, Arc::clone(app), devices, move || {
        WebApp::new()
            .app_data(state.clone())
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
        std::fs::create_dir_all(config.data.join("releases"))
            .with_context(|| config.data.display().to_string())?;
        releases::sweep(&config.data.join("releases")).context("releases/.staging")?;
        let pki = Pki::open(&config.data)?;
        let db = Db::open(&config.data.join("fleeti.db")).await?;
        let admin_token = admin_token(&config.data)?;
        let admin_tls = AdminTls::open(&config.data, config.api, &config.api_tls, &config.names)
            .context("TLS of the API")?;
        let Ports { addresses, api, https, mqtt } = Ports::bind(&config)?;
        let signer = config::signer(&config, config.crl_url(addresses.https))?;
        let trust = trust::load(&db, &pki).await.context("the trust bundle")?;
        let policies = Policies::load(&db).await?;
        let vault = Vault::load(&db).await?;
        let (identity, crls, has_signer) = credentials(&config, &db, &signer, &trust).await?;
        let tls = TlsState::new(identity, crls, config.clock.clone())?;
        let doors = Doors::new(config.limits, raise_descriptors());
        let (events, _) = broadcast::channel(1024);
        let (enrollment_batch, pending) = mpsc::channel(enrollment_batch::QUEUE_MAX);
        let (evidence, answers) = mpsc::channel(evidence::QUEUE_MAX);
        let app = Arc::new(App {
            config,
            pki,
            trust: ArcSwap::from_pointee(trust),
            notices: Mutex::new(()),
            carrying: Mutex::new(()),
            notice: ArcSwap::default(),
            signer,
            audit_waits: Notify::new(),
            enrollment_batch,
            evidence,
            db,
            hub: Hub::default(),
            tls,
            doors,
            admin_token,
            events,
            crls: revocation::Crls::default(),
            health: Health::default(),
            sessions: gateway::sessions::Sessions::default(),
            conducts: gateway::conduct::Conducts::default(),
            grants: crate::app::Grants::default(),
            documents: crate::service::releases::DocumentCache::default(),
            facts: evidence::FactCache::default(),
            pairing: crate::service::pairing::Pairing::default(),
            proving: crate::service::tpm::Proving::default(),
            alarms: crate::service::tpm::Alarms::default(),
            policies,
            vault,
            build_queued: Notify::new(),
        });
        app.health.signer(has_signer, app.now_s());
        app.health.disk.look(&app.config);
        // Load revoked devices before the first connection.
        revocation::load_revoked(&app).await?;
        let is_settled = has_signer && settled(&app).await?;
        notice::renew(&app).await.context("the notice to devices")?;

        let api_server = serve_api(api, &app, addresses, admin_tls.as_ref())?;
        let api_fingerprint = admin_tls.as_ref().map(AdminTls::fingerprint);
        let device_server = serve_devices(https, &app)?;
        let handles = vec![api_server.handle(), device_server.handle()];
        let mqtt = tokio::net::TcpListener::from_std(mqtt)?;
        let mut tasks = vec![
            tokio::spawn(async move { drop(api_server.await) }),
            tokio::spawn(async move { drop(device_server.await) }),
            tokio::spawn(gateway::run(Arc::clone(&app), mqtt)),
            tokio::spawn(worker::run(Arc::clone(&app))),
            tokio::spawn({
                let app = Arc::clone(&app);
                async move { gateway::sessions::run(&app).await }
            }),
            tokio::spawn(renew(Arc::clone(&app), has_signer)),
            tokio::spawn(health::watch(Arc::clone(&app))),
            tokio::spawn(revocation::prune(Arc::clone(&app))),
            tokio::spawn(retention::run(Arc::clone(&app))),
            tokio::spawn(enrollment_batch::run(Arc::clone(&app), pending)),
            tokio::spawn(evidence::run(Arc::clone(&app), answers)),
            tokio::spawn(tpm::judge_manufacturers(Arc::clone(&app))),
            tokio::spawn(audit::carry(Arc::clone(&app), is_settled)),
            tokio::spawn(notice::run(Arc::clone(&app))),
            tokio::spawn({
                let app = Arc::clone(&app);
                async move { app.hub.run().await }
            }),
        ];
        tasks.extend(admin_tls.map(|tls| tokio::spawn(tls.run())));
        Ok(Self { addresses, api_fingerprint, app, http: handles, tasks })
    }

    /// Ends all sessions, waits a moment for requests to finish, and stops.
    pub async fn stop(self) {
        self.app.hub.close().await;
        for handle in &self.http {
            tokio::time::timeout(Duration::from_secs(5), handle.stop(true)).await.ok();
        }
        for task in self.tasks {
            task.abort();
        }
        if let Err(e) = gateway::sessions::flush(&self.app).await {
            tracing::warn!("cannot store session state: {e}");
        }
        self.app.db.close().await;
    }
}

/// Settles the outbox of the audit log. Returns `false` if the signing service is away.
async fn settled(app: &App) -> Result<bool> {
    match audit::settle(app).await {
        Ok(()) => Ok(true),
        // The signing service answered a moment ago, and may be back soon.
        Err(e) if e.code() == Code::Unavailable => Ok(false),
        Err(e) => Err(e).context("the audit log"),
    }
}

async fn renew(app: AppRef, has_signer: bool) {
    let mut pause = if has_signer { RENEW_INTERVAL } else { RENEW_RETRY };
    loop {
        if tokio::time::timeout(pause, app.crls.retry.notified()).await.is_ok() {
            tokio::time::sleep(RENEW_RETRY).await;
        }
        pause = RENEW_INTERVAL;
        trust::warnings(&app, now_s()).iter().for_each(|warning| tracing::warn!("{warning}"));
        if let Err(e) = revocation::publish_crls(&app).await {
            tracing::error!("the CRLs were not renewed: {e}");
            pause = RENEW_RETRY;
            // Without the signing service the certificate cannot be renewed either.
            continue;
        }
        if let Err(e) = renew_identity(&app).await {
            tracing::error!("the server's certificate was not renewed: {e:#}");
            pause = RENEW_RETRY;
        }
    }
}
