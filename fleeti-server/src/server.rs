//! Starting and stopping.

use crate::app::{App, AppRef, now_s};
use crate::config::{Config, Pki, admin_token};
use crate::db::Db;
use crate::gateway::hub::Hub;
use crate::gateway::tls::{ServerIdentity, TlsState, https_config};
use crate::service::{releases, revocation};
use crate::{gateway, http, web, worker};
use actix_web::dev::ServerHandle;
use actix_web::web::Data;
use actix_web::{App as WebApp, HttpServer};
use anyhow::{Context, Result};
use fleeti_pki::certificate::{self, Period, Role};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, broadcast};
use tokio::task::JoinHandle;
use utoipa_actix_web::AppExt;

/// Validity of the server's own certificate; made anew at every start, and with every list.
const CERTIFICATE_S: u64 = 30 * 86_400;
const RENEW_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// API and web.
    pub api: SocketAddr,
    /// Device port.
    pub https: SocketAddr,
    /// MQTT port.
    pub mqtt: SocketAddr,
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub addresses: Addresses,
    /// What its parts share.
    pub app: AppRef,
    http: Vec<ServerHandle>,
    tasks: Vec<JoinHandle<()>>,
}

fn identity(pki: &Pki, names: &[String]) -> Result<ServerIdentity> {
    let key = SoftKey::generate(Algorithm::P256)?;
    let role = Role::Server { names: names.to_vec() };
    let authority = pki.server_authority();
    let leaf = certificate::issue(role, Period::starting(now_s(), CERTIFICATE_S), key.public_key_der(), &authority)?;
    let chain =
        [&leaf, authority.certificate].into_iter().map(|c| Ok(CertificateDer::from(certificate::to_der(c)?))).collect::<Result<_>>()?;
    Ok(ServerIdentity { chain, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der()?.to_vec())) })
}

impl Server {
    /// Starts everything; when this returns, all three ports answer.
    ///
    /// # Errors
    /// Names what is missing, and what to do.
    pub async fn start(config: Config) -> Result<Self> {
        std::fs::create_dir_all(config.data.join("releases")).with_context(|| config.data.display().to_string())?;
        releases::sweep(&config.data.join("releases")).context("releases/.staging")?;
        let pki = Pki::open(&config.data)?;
        let db = Db::open(&config.data.join("fleeti.db")).await?;
        let admin_token = admin_token(&config.data)?;
        let list = fleeti_pki::crl::create(&pki.device_authority(), &[], 0, now_s(), revocation::CRL_S)?;
        let tls = TlsState::new(identity(&pki, &config.names)?, pki.device_ca.clone(), &list)?;
        let bind = |what: &str, address: SocketAddr| {
            let listener = TcpListener::bind(address).with_context(|| format!("{what}: {address}"))?;
            listener.set_nonblocking(true)?;
            anyhow::Ok((listener.local_addr()?, listener))
        };
        let (api_address, api) = bind("API", config.api)?;
        let (https_address, https) = bind("device port", config.https)?;
        let (mqtt_address, mqtt) = bind("MQTT", config.mqtt)?;
        let addresses = Addresses { api: api_address, https: https_address, mqtt: mqtt_address };
        let (events, _) = broadcast::channel(1024);
        let app = Arc::new(App {
            config,
            pki,
            db,
            hub: Hub::default(),
            tls,
            admin_token,
            events,
            list: Mutex::new(()),
            sessions: gateway::sessions::Sessions::default(),
            grants: crate::app::Grants::default(),
            documents: crate::service::releases::DocumentCache::default(),
            build_queued: Notify::new(),
        });
        // The real list before the first connection.
        revocation::publish_list(&app).await?;

        let shared = (Data::new(Arc::clone(&app)), Data::new(addresses));
        let api_server = HttpServer::new({
            let shared = shared.clone();
            move || {
                WebApp::new()
                    .app_data(shared.0.clone())
                    .app_data(shared.1.clone())
                    .into_utoipa_app()
                    .configure(http::api::routes)
                    .into_app()
                    .configure(web::routes)
            }
        })
        .workers(1)
        .disable_signals()
        .listen(api)?
        .run();
        let device_server = HttpServer::new(move || WebApp::new().app_data(shared.0.clone()).configure(http::device::routes))
            .on_connect(http::device::on_connect)
            .workers(1)
            .disable_signals()
            .listen_rustls_0_23(https, https_config(&app)?)?
            .run();
        let handles = vec![api_server.handle(), device_server.handle()];
        let mqtt = tokio::net::TcpListener::from_std(mqtt)?;
        let tasks = vec![
            tokio::spawn(async move { drop(api_server.await) }),
            tokio::spawn(async move { drop(device_server.await) }),
            tokio::spawn(gateway::run(Arc::clone(&app), mqtt)),
            tokio::spawn(worker::run(Arc::clone(&app))),
            tokio::spawn({
                let app = Arc::clone(&app);
                async move { gateway::sessions::run(&app).await }
            }),
            tokio::spawn(renew(Arc::clone(&app))),
        ];
        Ok(Self { addresses, app, http: handles, tasks })
    }

    /// Ends every session, lets requests finish for a moment, and stops.
    pub async fn stop(self) {
        self.app.hub.kick_all();
        for handle in &self.http {
            tokio::time::timeout(Duration::from_secs(5), handle.stop(true)).await.ok();
        }
        for task in self.tasks {
            task.abort();
        }
        self.app.db.pool().close().await;
    }
}

async fn renew(app: AppRef) {
    loop {
        tokio::time::sleep(RENEW_INTERVAL).await;
        if let Err(e) = revocation::publish_list(&app).await {
            tracing::error!("the revocation list was not renewed: {e}");
        }
        if let Err(e) = identity(&app.pki, &app.config.names).and_then(|identity| app.tls.renew(identity)) {
            tracing::error!("the server's certificate was not renewed: {e:#}");
        }
    }
}
