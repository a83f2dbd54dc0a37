//! `birdwire convert`

use super::send::provider;
use super::{Done, Failure, output, read_document};
use crate::adapter::Provider;
use crate::app;
use crate::domain::account::{Account, Channel};
use crate::domain::delivery::Order;
use crate::domain::event::{End, EventType};
use crate::domain::format::RecordFormat;
use crate::domain::ids::{AccountId, CustomerId};
use crate::domain::route::{Interest, SubscriberId};
use crate::domain::secret::Secret;
use crate::domain::settings::{SettingKind, SettingValue, Settings};
use crate::domain::webhook::RawWebhook;
use crate::ingest::{Desk, Ingest};
use crate::metrics::Metrics;
use crate::store::listing::DeliveryQuery;
use crate::store::{self, Access, Store};
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
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
    let now = (app::system_clock())();
    let headers = (provider.sign)(&Secret::new(KEY), URL, &body, now);
    let headers = headers.into_iter().map(|(name, value)| (name.into(), value)).collect();
    let webhook = RawWebhook { headers, body, received_at: now };

    let bench = Bench::open(&options, provider, channel).await?;
    let result = convert(&options, provider, channel, &webhook, &bench).await;
    bench.store.close().await;
    result
}

async fn convert(
    options: &Options,
    provider: &Provider,
    channel: Channel,
    webhook: &RawWebhook,
    bench: &Bench,
) -> Done {
    let mut good = true;
    let mut seen = 0;
    for (index, event) in bench.ingest.read(bench.desk()?, webhook)?.into_iter().enumerate() {
        // One by one, so that every event shows what it causes, even if a later one takes it back.
        let ends = bench.ingest.accept_event(bench.desk()?, webhook, event.clone()).await?;
        match ends.first() {
            Some(End::Duplicate { .. }) => {
                // To a gateway it is a repeat. But whoever writes samples gives all of them one id, and here every event
                // is to be seen: by itself, on a store of its own.
                let alone = Bench::open(options, provider, channel).await?;
                let shown = async {
                    alone.ingest.accept_event(alone.desk()?, webhook, event).await?;
                    alone.print(0, options.conversations).await
                };
                let shown = shown.await;
                alone.store.close().await;
                shown?;
            }
            Some(End::Quarantined(quarantine)) => {
                good = false;
                anstream::eprintln!("event {index}: {quarantine}");
            }
            _ => seen = bench.print(seen, options.conversations).await?,
        }
    }
    if good { Ok(()) } else { Err(Failure::NotGood) }
}

/// An empty store with an account and a subscriber that is interested in everything.
struct Bench {
    store: Arc<dyn Store>,
    ingest: Ingest,
    account: AccountId,
    _folder: TempDir,
}

impl Bench {
    async fn open(options: &Options, provider: &Provider, channel: Channel) -> anyhow::Result<Self> {
        let account = Account {
            id: AccountId(options.account_id),
            customer_id: CustomerId(options.customer_id),
            name: options.name.clone(),
            channel,
            address: options.address.clone(),
        };
        let mut settings = Settings::default();
        for setting in provider.schema.keys.iter().filter(|s| s.required && s.kind == SettingKind::Secrets) {
            settings.0.insert(setting.name, SettingValue::Secrets(vec![Secret::new(KEY)]));
        }
        let adapter = (provider.build)(&account, &settings, URL).map_err(|e| anyhow::anyhow!(e.join("; ")))?;

        let folder = tempfile::tempdir().context("there is no folder for a temporary store")?;
        let url = format!("sqlite:{}", folder.path().join("convert.db").display());
        let metrics = Metrics::new()?;
        let store = store::open(&url, app::opening(Access::Serve, (app::system_clock())(), &metrics, 1, "")).await?;
        let reader = SubscriberId(READER.to_owned());
        store.register_subscribers(&[(reader.clone(), Order::Strict)]).await?;
        let interest = Interest { subscriber: reader, events: vec!["*".to_owned()], accounts: Vec::new() };
        let format = RecordFormat::parse(&options.format).unwrap_or(RecordFormat::Documented);
        let id = account.id;
        let ingest = app::ingest(store.clone(), format, vec![interest], vec![(account, adapter)]);
        Ok(Self { store, ingest, account: id, _folder: folder })
    }

    fn desk(&self) -> anyhow::Result<&Desk> {
        Ok(self.ingest.desk(self.account).context("the account has gone missing")?)
    }

    /// Prints what has become owed since the delivery `after`; says which is the latest.
    async fn print(&self, after: i64, conversations: bool) -> anyhow::Result<i64> {
        let query = DeliveryQuery { after, limit: usize::MAX, ..DeliveryQuery::default() };
        let mut latest = after;
        for row in self.store.deliveries(query).await? {
            latest = row.id;
            let is_conversations = [EventType::ConversationCreated, EventType::ConversationUpdated]
                .iter()
                .any(|t| t.as_str() == row.event_type);
            if conversations || !is_conversations {
                let detail = self.store.delivery(row.id).await?.context("a delivery has gone missing")?;
                output::line(std::str::from_utf8(&detail.body)?)?;
            }
        }
        Ok(latest)
    }
}
