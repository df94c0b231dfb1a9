//! What the pages of webhooks show. Answers are text of other parties.

use crate::pages::display::{Badge, time};
use crate::pages::page::Page;
use askama::Template;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::webhook::{CreatedWebhook, Delivery, DeliveryStatus, EVENTS, Webhook};

/// Events that are chosen in an empty form.
const CHOSEN: [&str; 2] = ["alerts.raised", "alerts.resolved"];

/// The state of a delivery in its color.
pub fn state(status: DeliveryStatus) -> Badge {
    let tone = match status {
        DeliveryStatus::Waiting => "busy",
        DeliveryStatus::Delivered => "good",
        DeliveryStatus::Failed => "bad",
    };
    Badge::new(tone, status.as_str())
}

/// A row of a list of deliveries.
pub struct DeliveryRow {
    pub event: String,
    /// HTML.
    pub at: String,
    pub state: Badge,
    pub attempts: u32,
    pub answer: String,
    /// HTML: when the next attempt follows.
    pub next: Option<String>,
}

impl From<&Delivery> for DeliveryRow {
    fn from(d: &Delivery) -> Self {
        Self {
            event: d.event.clone(),
            at: time(d.at_s),
            state: state(d.status),
            attempts: d.attempts,
            answer: Foreign::log(&d.answer).to_string(),
            next: d.next_s.map(time),
        }
    }
}

/// A webhook of the list, with its newest delivery.
struct WebhookRow {
    id: String,
    url: String,
    events: String,
    newest: Option<DeliveryRow>,
}

/// The list of webhooks.
#[derive(Template)]
#[template(path = "webhooks.html", blocks = ["main"])]
pub struct WebhooksPage {
    page: Page,
    webhooks: Vec<WebhookRow>,
    /// Events that can be sent, and whether the form has them chosen.
    events: Vec<(&'static str, bool)>,
}

impl WebhooksPage {
    pub fn of(page: Page, found: &[(Webhook, Option<Delivery>)]) -> Self {
        let row = |(webhook, newest): &(Webhook, Option<Delivery>)| WebhookRow {
            id: webhook.id.clone(),
            url: Foreign::log(&webhook.url).to_string(),
            events: webhook.events.join(", "),
            newest: newest.as_ref().map(DeliveryRow::from),
        };
        Self {
            page,
            webhooks: found.iter().map(row).collect(),
            events: EVENTS.iter().map(|event| (*event, CHOSEN.contains(event))).collect(),
        }
    }
}

/// The page of one webhook.
#[derive(Template)]
#[template(path = "webhook.html", blocks = ["main"])]
pub struct WebhookPage {
    page: Page,
    id: String,
    url: String,
    events: String,
    created: String,
    deliveries: Vec<DeliveryRow>,
}

impl WebhookPage {
    pub fn of(page: Page, webhook: &Webhook, deliveries: &[Delivery]) -> Self {
        Self {
            page,
            id: webhook.id.clone(),
            url: Foreign::log(&webhook.url).to_string(),
            events: webhook.events.join(", "),
            created: time(webhook.created_s),
            deliveries: deliveries.iter().map(DeliveryRow::from).collect(),
        }
    }
}

/// The page that shows the secret of a new webhook.
#[derive(Template)]
#[template(path = "webhook_added.html")]
pub struct AddedPage {
    page: Page,
    id: String,
    secret: String,
}

impl AddedPage {
    pub fn of(page: Page, added: &CreatedWebhook) -> Self {
        let secret = added.secret.expose().to_owned();
        Self { page, id: added.webhook.id.clone(), secret }
    }
}
