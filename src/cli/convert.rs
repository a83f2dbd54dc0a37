//! `birdwire convert`

use super::send::provider;
use super::{Done, Failure, output, read_document};
use crate::app;
use crate::domain::account::{Account, Channel};
use crate::domain::delivery::{Order, State};
use crate::domain::event::{End, EventType};
use crate::domain::format::RecordFormat;
use crate::domain::ids::{AccountId, CustomerId};
use crate::domain::route::{Interest, SubscriberId};
use crate::domain::secret::Secret;
use crate::domain::settings::{SettingKind, SettingValue, Settings};
use crate::domain::webhook::RawWebhook;
use crate::metrics::Metrics;
use crate::store::listing::DeliveryQuery;
use crate::store::{self, Access, Store};
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Args)]
pub(super) struct Options {
    /// Whose payload
    #[arg(long)]
    provider: String,
    /// What the account speaks
    #[arg(long = "type", default_value = "line", value_parser = Channel::ALL.map(Channel::as_str))]
    channel: String,
    /// The records to write
    #[arg(long, default_value = "documented", value_parser = RecordFormat::ALL.map(RecordFormat::as_str))]
    format: String,
    /// The account
    #[arg(long, value_name = "UUID", default_value_t = Uuid::nil(), hide_default_value = true)]
    account_id: Uuid,
    /// The customer
    #[arg(long, value_name = "UUID", default_value_t = Uuid::nil(), hide_default_value = true)]
    customer_id: Uuid,
    /// Our own id or number
    #[arg(long)]
    address: Option<String>,
    /// The account's name
    #[arg(long, default_value = "")]
    name: String,
    /// Print conversation events too
    #[arg(long)]
    conversations: bool,
    /// The payload; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

/// The subscriber that is interested in everything.
const READER: &str = "convert";

/// The payload is signed and verified like any other, with a key of its own, for a URL that nobody calls.
const KEY: &str = "convert";
const URL: &str = "https://convert.invalid/";

pub(super) async fn run(options: Options) -> Done {
    let body = read_document(&options.file)?;
    let folder = tempfile::tempdir().context("there is no folder for a temporary store")?;
    let url = format!("sqlite:{}", folder.path().join("convert.db").display());
    let clock = app::system_clock();
    let store = store::open(&url, Access::Serve, clock(), &Metrics::new()?)?;
    let result = convert(&options, body, &store).await;
    store.close().await;
    result
}

async fn convert(options: &Options, body: Vec<u8>, store: &Arc<dyn Store>) -> Done {
    let provider = provider(&options.provider)?;
    let channel = Channel::parse(&options.channel).unwrap_or(Channel::Line);
    if !provider.schema.channels.contains(&channel) {
        let known: Vec<&str> = provider.schema.channels.iter().map(|c| c.as_str()).collect();
        return Err(Failure::Usage(format!(
            "--type: {} is not supported by provider {} yet; use {}",
            channel.as_str(),
            provider.schema.provider,
            known.join(" or ")
        )));
    }
    let account = Account {
        id: AccountId(options.account_id),
        customer_id: CustomerId(options.customer_id),
        name: options.name.clone(),
        channel,
        address: options.address.clone(),
    };
    let key = Secret::new(KEY);
    let mut settings = Settings::default();
    for setting in provider.schema.keys.iter().filter(|s| s.required && s.kind == SettingKind::Secrets) {
        settings.0.insert(setting.name, SettingValue::Secrets(vec![key.clone()]));
    }
    let adapter = (provider.build)(&account, &settings, URL).map_err(|e| anyhow::anyhow!(e.join("; ")))?;

    let reader = SubscriberId(READER.to_owned());
    store.register_subscribers(&[(reader.clone(), Order::Strict)]).await?;
    let interest = Interest { subscriber: reader, events: vec!["*".to_owned()], accounts: Vec::new() };
    let format = RecordFormat::parse(&options.format).unwrap_or(RecordFormat::Documented);
    let id = account.id;
    let ingest = app::ingest(store.clone(), format, vec![interest], vec![(account, adapter)]);
    let now = (app::system_clock())();
    let headers = (provider.sign)(&key, URL, &body, now).into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    let desk = ingest.desk(id).context("the account has gone missing")?;
    let webhook = RawWebhook { headers, body, received_at: now };
    let report = ingest.accept(desk, webhook, "convert".to_owned(), Box::new(())).await?;

    let deliveries = store.deliveries(DeliveryQuery { limit: usize::MAX, ..DeliveryQuery::default() }).await?;
    for row in deliveries {
        let is_conversations = [EventType::ConversationCreated, EventType::ConversationUpdated]
            .iter()
            .any(|t| t.as_str() == row.event_type);
        // What the same webhook takes back is sent to nobody.
        if is_conversations && !options.conversations || row.state == State::Cancelled {
            continue;
        }
        let detail = store.delivery(row.id).await?.context("a delivery has gone missing")?;
        output::line(std::str::from_utf8(&detail.body)?)?;
    }
    let mut good = true;
    for (index, end) in report.ends.iter().enumerate() {
        if let End::Quarantined(quarantine) = end {
            good = false;
            anstream::eprintln!("event {index}: {quarantine}");
        }
    }
    if good { Ok(()) } else { Err(Failure::NotGood) }
}
