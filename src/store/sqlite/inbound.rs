//! Keeping one webhook.

use super::index::{Key, KeyHash};
use super::messages::{self, Search};
use super::outbox::{self, About};
use super::statements::Hot;
use super::writer::Tx;
use crate::domain::account::{Account, Channel};
use crate::domain::conversation::{Change, Conversation, Sighting, observe};
use crate::domain::event::{
    Content, DedupeKey, End, EventType, Notice, OutboundEvent, Quarantine, QuarantineReason, Record,
};
use crate::domain::ids::ConversationId;
use crate::domain::merge;
use crate::domain::time::Timestamp;
use crate::store::columns::{self, EndColumns, key_hash};
use crate::store::inbound::{Inbound, Prepared, Receipt};
use crate::store::{plan, rows};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

/// Writes everything that `inbound` causes. What no row can hold is kept raw instead of failing its batch.
pub(super) fn commit(tx: &mut Tx<'_>, inbound: &Inbound) -> rusqlite::Result<Receipt> {
    match try_commit(tx, inbound) {
        Err(error) if tx.is_careful && super::error::blame(&error) == super::error::Blame::Item => {
            tx.undo()?;
            keep_aside(tx, inbound, &error)
        }
        result => result,
    }
}

fn try_commit(tx: &mut Tx<'_>, inbound: &Inbound) -> rusqlite::Result<Receipt> {
    let mut receipts = Receipts::new(tx, inbound)?;
    if inbound.events.is_empty() {
        let end = End::Ignored;
        receipts.write(tx, &Row { end: &end, ..Row::bare("") })?;
        return Ok(Receipt { ends: vec![end] });
    }
    let mut ends = Vec::with_capacity(inbound.events.len());
    for prepared in &inbound.events {
        ends.push(one(tx, &mut receipts, inbound, prepared)?);
    }
    if let Some(webhook) = receipts.webhook {
        for (prepared, end) in inbound.events.iter().zip(&ends) {
            if matches!(end, End::Duplicate { .. } | End::Quarantined(_)) {
                say_nothing_erased(tx, inbound, prepared, receipts.account, webhook)?;
            }
        }
    }
    Ok(Receipt { ends })
}

/// What is kept and changes no message (a repeat beside something new, an event that is not understood) must not say what
/// was taken back before.
fn say_nothing_erased(
    tx: &Tx<'_>,
    inbound: &Inbound,
    prepared: &Prepared,
    account: i64,
    webhook: i64,
) -> rusqlite::Result<()> {
    let Some(id) = prepared.event.content.speaks_of() else { return Ok(()) };
    match messages::find(tx.connection, tx.memory, &inbound.account, account, id, Search::Known)? {
        Some(found) if found.known.message.tm_delete.is_some() => {
            outbox::erase_raw(tx.connection, inbound, webhook, id)
        }
        _ => Ok(()),
    }
}

fn one(tx: &mut Tx<'_>, receipts: &mut Receipts<'_>, inbound: &Inbound, prepared: &Prepared) -> rusqlite::Result<End> {
    let event = &prepared.event;
    receipts.place = prepared.place;
    receipts.stands = prepared.replaces.is_some();
    let row = match prepared.replaces {
        Some(row) => row,
        None => tx.memory.next_event(),
    };
    let key = event.key.as_ref().map(|key| (key, key_hash(&key.provider_key)));
    let bare = Row { key, ..Row::bare(&event.kind) };
    if let Some((key, hash)) = key
        && let Some(conflict) = repeated(tx, Key { account: receipts.account, at: key.at.micros(), hash, event: row })?
    {
        let end = End::Duplicate { conflict };
        receipts.write_at(tx, row, &Row { end: &end, ..bare })?;
        return Ok(end);
    }
    match &event.content {
        Content::Quarantined(quarantine) => {
            let end = End::Quarantined(quarantine.clone());
            receipts.write_at(tx, row, &Row { end: &end, ..bare })?;
            return Ok(end);
        }
        Content::Notice(notice) => {
            receipts.write_at(tx, row, &bare)?;
            store_notice(tx, inbound, prepared, notice, receipts.account, row)?;
        }
        Content::Message(_) => store_message(tx, receipts, inbound, prepared, Search::New, row, &bare)?,
        Content::Outgoing(new) => {
            let at = event.key.as_ref().map_or(new.message.tm_create, |key| key.at);
            store_message(tx, receipts, inbound, prepared, Search::At(at), row, &bare)?;
        }
        Content::Edited(_) | Content::Unsent(_) => {
            store_message(tx, receipts, inbound, prepared, Search::Known, row, &bare)?;
        }
    }
    Ok(End::Stored)
}

/// `None` for a new event, which is remembered; otherwise whether the repeat's time differs.
fn repeated(tx: &mut Tx<'_>, key: Key) -> rusqlite::Result<Option<bool>> {
    if let Some(seen) = tx.memory.seen(tx.connection, key.account, key.at, &key.hash)? {
        return Ok(Some(seen != key.at));
    }
    tx.memory.remember_key(tx.connection, key)?;
    Ok(None)
}

fn store_message(
    tx: &mut Tx<'_>,
    receipts: &mut Receipts<'_>,
    inbound: &Inbound,
    prepared: &Prepared,
    search: Search,
    event: i64,
    receipt: &Row<'_>,
) -> rusqlite::Result<()> {
    let content = &prepared.event.content;
    let (Some(id), Some(sighting)) = (content.message_id(), content.sighting()) else { return Ok(()) };
    let account = receipts.account;
    let seen = content.conversation_id(&inbound.account);
    let found = messages::find(tx.connection, tx.memory, &inbound.account, account, id, search)?;
    let (conversation, change) = match &found {
        // What is said later may not name the dialog: the message stays where it is.
        Some(found) if found.known.message.conversation_id != seen => (found.conversation, Change::None),
        _ => see(tx, inbound, sighting, seen, account)?,
    };
    let applied = merge::apply(found.as_ref().map(|found| &found.known), content);
    let row = match (&found, &applied.record) {
        (Some(found), Some(record)) => {
            messages::update(tx.connection, found.row, record, applied.edited)?;
            Some(found.row)
        }
        (Some(found), None) => Some(found.row),
        (None, Some(record)) => {
            let early = search == Search::Known;
            messages::insert(tx, record, applied.edited, early, account, conversation, event)?;
            Some(event)
        }
        (None, None) => None,
    };
    receipts.write_at(tx, event, &Row { message: row, ..*receipt })?;

    let lane = match &found {
        Some(found) => found.known.message.conversation_id,
        None => seen,
    };
    let about = About { event, message: row, conversation, lane };
    if let Some(outbound) = plan::of_conversation(&change, prepared, &inbound.account, &inbound.outlet) {
        outbox::owe(tx, &inbound.into(), &outbound, About { message: None, ..about })?;
    }
    for outbound in plan::of_message(&applied, prepared, &inbound.account, &inbound.outlet).iter() {
        outbox::owe(tx, &inbound.into(), outbound, about)?;
    }
    if applied.erase
        && let Some(row) = row
    {
        outbox::erase(tx, inbound, row, id)?;
    }
    Ok(())
}

/// Writes what a sighting says of its conversation.
fn see(
    tx: &mut Tx<'_>,
    inbound: &Inbound,
    sighting: &Sighting,
    id: ConversationId,
    account: i64,
) -> rusqlite::Result<(i64, Change)> {
    let connection = tx.connection;
    learn(tx, id.0, &inbound.account)?;
    let known = tx.memory.conversation(&id.0);
    let change = observe(known.map(|(_, c)| c), sighting, &inbound.account);
    let row = match (&change, known.map(|(row, _)| *row)) {
        (Change::Created(made), _) => insert_conversation(connection, made, account)?,
        (Change::Updated(changed), Some(row)) => {
            connection
                .prepare_cached("UPDATE conversations SET peer = ?2, named_at = ?3, tm_update = ?4 WHERE id = ?1")?
                .execute(params![
                    row,
                    rows::address(&changed.peer),
                    changed.named_at.micros(),
                    changed.tm_update.map(Timestamp::micros)
                ])?;
            row
        }
        (_, Some(row)) => row,
        // `observe` creates what is not known.
        (_, None) => return Err(rusqlite::Error::QueryReturnedNoRows),
    };
    if let Change::Created(now) | Change::Updated(now) = &change {
        tx.memory.remember_conversation(id.0, row, now.clone());
    }
    Ok((row, change))
}

/// Something that happened without a message takes its conversation's lane, or the account's when there is none.
fn store_notice(
    tx: &mut Tx<'_>,
    inbound: &Inbound,
    prepared: &Prepared,
    notice: &Notice,
    account: i64,
    event: i64,
) -> rusqlite::Result<()> {
    let seen = prepared.event.content.conversation_id(&inbound.account);
    let (row, change) = match &notice.sighting {
        Some(sighting) if notice.opens || is_known(tx, inbound, seen)? => see(tx, inbound, sighting, seen, account)?,
        _ => (-account, Change::None),
    };
    let lane = if row >= 0 { seen } else { ConversationId(inbound.account.id.0) };
    let about = About { event, message: None, conversation: row, lane };
    if let Some(outbound) = plan::of_conversation(&change, prepared, &inbound.account, &inbound.outlet) {
        outbox::owe(tx, &inbound.into(), &outbound, about)?;
    }
    let record = Record::ChannelEvent(&notice.record);
    let render = &*inbound.outlet.render;
    let outbound = OutboundEvent::new(render, inbound.account.id, EventType::ChannelEvent, record, prepared.cause());
    outbox::owe(tx, &inbound.into(), &outbound, about)
}

fn is_known(tx: &mut Tx<'_>, inbound: &Inbound, id: ConversationId) -> rusqlite::Result<bool> {
    learn(tx, id.0, &inbound.account)?;
    Ok(tx.memory.conversation(&id.0).is_some())
}

/// Makes a conversation known by heart, if there is one.
fn learn(tx: &mut Tx<'_>, id: Uuid, account: &Account) -> rusqlite::Result<()> {
    if tx.memory.conversation(&id).is_none()
        && let Some((row, conversation)) = conversation(tx.connection, id, account)?
    {
        tx.memory.remember_conversation(id, row, conversation);
    }
    Ok(())
}

/// Row and content of a conversation.
fn conversation(connection: &Connection, id: Uuid, account: &Account) -> rusqlite::Result<Option<(i64, Conversation)>> {
    connection
        .prepare_cached(
            "SELECT id, dialog_id, own, peer, named_at, tm_create, tm_update, tm_delete
             FROM conversations WHERE uuid = ?1",
        )?
        .query_row([id.as_bytes()], |r| {
            let address = |column: usize| {
                let text: String = r.get(column)?;
                rows::parse_address(&text).ok_or(rusqlite::Error::InvalidColumnType(
                    column,
                    "address".to_owned(),
                    rusqlite::types::Type::Text,
                ))
            };
            let channel: Channel = account.channel;
            Ok((
                r.get(0)?,
                Conversation {
                    id: crate::domain::ids::ConversationId(id),
                    account_id: account.id,
                    customer_id: account.customer_id,
                    channel,
                    dialog_id: r.get(1)?,
                    own: address(2)?,
                    peer: address(3)?,
                    named_at: Timestamp::from_micros(r.get(4)?),
                    tm_create: Timestamp::from_micros(r.get(5)?),
                    tm_update: r.get::<_, Option<i64>>(6)?.map(Timestamp::from_micros),
                    tm_delete: r.get::<_, Option<i64>>(7)?.map(Timestamp::from_micros),
                },
            ))
        })
        .optional()
}

fn insert_conversation(connection: &Connection, made: &Conversation, account: i64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO conversations (uuid, account, customer, channel, dialog_id, own, peer, named_at, tm_create,
                 tm_update, tm_delete)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, NULL)",
        )?
        .execute(params![
            made.id.0.as_bytes(),
            account,
            made.customer_id.0.as_bytes(),
            made.channel.as_str(),
            made.dialog_id,
            rows::address(&made.own),
            rows::address(&made.peer),
            made.named_at.micros(),
            made.tm_create.micros(),
        ])?;
    Ok(connection.last_insert_rowid())
}

/// Keeps the whole webhook raw, every event of it in quarantine.
fn keep_aside(tx: &mut Tx<'_>, inbound: &Inbound, error: &rusqlite::Error) -> rusqlite::Result<Receipt> {
    let mut receipts = Receipts::new(tx, inbound)?;
    let quarantine = Quarantine::new(QuarantineReason::Unstorable, super::error::explain(error));
    let mut ends = Vec::with_capacity(inbound.events.len());
    for prepared in &inbound.events {
        let end = End::Quarantined(quarantine.clone().about(prepared.event.content.speaks_of()));
        receipts.place = prepared.place;
        receipts.write(tx, &Row { end: &end, ..Row::bare(&prepared.event.kind) })?;
        ends.push(end);
    }
    Ok(Receipt { ends })
}

/// One line of the account of events.
#[derive(Clone, Copy)]
struct Row<'a> {
    kind: &'a str,
    key: Option<(&'a DedupeKey, KeyHash)>,
    end: &'a End,
    message: Option<i64>,
}

impl<'a> Row<'a> {
    fn bare(kind: &'a str) -> Self {
        Self { kind, key: None, end: &End::Stored, message: None }
    }
}

/// Writes the account of one webhook's events; the raw webhook itself is written with the first event that is
/// worth it, so that a repeat leaves a receipt without a body.
struct Receipts<'a> {
    inbound: &'a Inbound,
    account: i64,
    webhook: Option<i64>,
    place: usize,
    /// Whether the event's row is there already: a quarantined one that is read again.
    stands: bool,
}

impl<'a> Receipts<'a> {
    fn new(tx: &mut Tx<'_>, inbound: &'a Inbound) -> rusqlite::Result<Self> {
        let account = tx.memory.account(tx.connection, inbound.account.id.0)?;
        Ok(Self { inbound, account, webhook: inbound.kept, place: 0, stands: false })
    }

    fn write(&mut self, tx: &mut Tx<'_>, row: &Row<'_>) -> rusqlite::Result<()> {
        let id = tx.memory.next_event();
        self.write_at(tx, id, row)
    }

    fn write_at(&mut self, tx: &mut Tx<'_>, id: i64, row: &Row<'_>) -> rusqlite::Result<()> {
        let webhook = match row.end {
            End::Stored | End::Quarantined(_) => Some(self.raw(tx, id)?),
            End::Duplicate { .. } | End::Ignored => None,
        };
        let EndColumns { state, conflict, reason, detail } = columns::end(row.end);
        let about = columns::about(row.end);
        let place = i64::try_from(self.place).unwrap_or(i64::MAX);
        let params = params![
            id,
            webhook,
            place,
            self.account,
            self.inbound.received_at.micros(),
            self.inbound.request_id,
            row.kind,
            row.key.map(|(key, _)| key.at.micros()),
            row.key.map(|(key, _)| key.provider_key.as_str()).or(about.as_deref()),
            state,
            conflict,
            reason,
            detail,
            row.message,
        ];
        if self.stands {
            // When and with which request it came stays as it is.
            let sql = "UPDATE events SET webhook = ?2, kind = ?7, event_time = ?8, provider_key = ?9, state = ?10,
                     conflict = ?11, reason = ?12, detail = ?13, message = ?14
                 WHERE id = ?1";
            tx.connection.prepare_cached(sql)?.execute(params)?;
        } else {
            tx.run(Hot::Event, params)?;
        }
        match (row.key, about) {
            (Some((key, hash)), _) => tx.memory.index.key(tx.connection, id, &key.provider_key, &hash),
            (None, Some(about)) => tx.memory.index.key(tx.connection, id, &about, &key_hash(&about)),
            (None, None) => Ok(()),
        }
    }

    /// The row of the raw webhook. It has the id of the event that it is kept for, which is never given twice: a row that
    /// retention removed must not be taken for another one.
    fn raw(&mut self, tx: &mut Tx<'_>, event: i64) -> rusqlite::Result<i64> {
        if let Some(row) = self.webhook {
            return Ok(row);
        }
        tx.run(
            Hot::Webhook,
            params![
                event,
                self.account,
                self.inbound.received_at.micros(),
                columns::headers(&self.inbound.headers),
                self.inbound.body,
            ],
        )?;
        self.webhook = Some(event);
        Ok(event)
    }
}
