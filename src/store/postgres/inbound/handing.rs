//! Handing lanes over with the commit that gives them something: a lane that was idle is committed on lease for somebody of
//! this process who has a place for it, so that nobody has to look for it.
//!
//! Whether a lane is idle is known when it is locked, which is when it is written; places are taken for all of a batch
//! before that, and those that were not needed are given back.

use super::super::lanes::{Claims, Doubt};
use super::work::Owed;
use crate::domain::route::SubscriberId;
use crate::domain::time::micros_of;
use crate::store::lane::{self, Lease, Leased, Place, Taker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::Row;
use uuid::Uuid;

/// Whoever takes lanes over, once he has said so.
#[derive(Default)]
pub(crate) struct Hands(Mutex<Option<Arc<dyn Taker>>>);

impl Hands {
    pub(crate) fn set(&self, taker: Arc<dyn Taker>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(taker);
    }

    fn get(&self) -> Option<Arc<dyn Taker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Places for the lanes of a batch. Those that are left when this goes are given back, and if nobody knows then whether the
/// lanes were leased, they are looked at before the next claim.
pub(super) struct Handing<'a> {
    taker: Arc<dyn Taker>,
    places: BTreeMap<(i64, i64), (&'a SubscriberId, Place)>,
    doubt: Option<Doubt<'a>>,
}

impl<'a> Handing<'a> {
    /// Takes places for the lanes that `owed` gives something, as far as there are any, and marks those lanes to be leased to
    /// `holder` if they are idle. `None` when there is no place.
    pub(super) fn of(hands: &Hands, claims: &'a Claims, owed: &mut Owed<'a>, holder: Uuid) -> Option<Self> {
        let taker = hands.get()?;
        let mut places = BTreeMap::new();
        for (key, lane) in owed.lanes.iter_mut().filter(|(_, lane)| lane.ordered && lane.active) {
            if let Some(place) = taker.place(lane.name) {
                lane.lease = Some(micros_of(place.lease));
                places.insert(*key, (lane.name, place));
            }
        }
        if places.is_empty() {
            return None;
        }
        owed.holder = Some(holder);
        Some(Self { taker, places, doubt: Some(Doubt::of(claims, holder)) })
    }

    /// Hands over what is committed on lease, of the lanes that the commit wrote.
    pub(super) fn over(mut self, lanes: &[Row], owed: &Owed<'_>) {
        if let Some(doubt) = self.doubt.take() {
            doubt.settle();
        }
        for row in lanes.iter().filter(|row| row.get("mine")) {
            let key: (i64, i64) = (row.get("conversation"), row.get("subscriber"));
            let (Some(lane), Some((subscriber, place))) = (owed.lanes.get(&key), self.places.remove(&key)) else {
                continue;
            };
            let first = &owed.deliveries[lane.first];
            let outbound = &owed.outbox[first.outbound];
            let sequence = row.get::<_, i64>("last_seq") - lane.count + 1;
            let owed = lane::Owed::first(first.id, sequence, &outbound.event, outbound.at);
            let lease = Lease { lane: row.get("id"), token: row.get("token") };
            let leased = Leased { lease, subscriber: subscriber.clone(), conversation: outbound.lane, owed };
            self.taker.take(leased, place);
        }
    }
}

impl Drop for Handing<'_> {
    fn drop(&mut self) {
        for (subscriber, place) in std::mem::take(&mut self.places).into_values() {
            self.taker.give_back(subscriber, place);
        }
    }
}
