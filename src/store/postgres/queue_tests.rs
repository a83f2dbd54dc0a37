//! Which items go together and which wait, without a database.

use super::*;
use crate::store::postgres::connect::Session;
use crate::store::postgres::error::Failure;
use uuid::Uuid;

/// Items are pairs: the way, and a number.
struct Pairs;

impl Flush for Pairs {
    type Item = (u64, usize);
    type Answer = usize;

    fn way(&self, item: &Self::Item) -> Option<u64> {
        Some(item.0)
    }

    async fn flush(
        &self,
        _session: &Session,
        _id: Uuid,
        _items: &[Self::Item],
        _promised: &mut Option<Vec<usize>>,
    ) -> Result<(), Failure> {
        Err(Failure::silent())
    }

    fn committed(&self, _answers: &[usize]) {}
}

fn filled(items: impl IntoIterator<Item = (u64, usize)>) -> (Queue<Pairs>, Arc<Line<Pairs>>) {
    let queue = Queue::new(Arc::new(Pairs), 10_000);
    for item in items {
        queue.offer(item).expect("there is room");
    }
    let line = queue.line();
    (queue, line)
}

/// What may go now. No transaction under way counts as slow by that, however busy the machine is.
async fn at_once(line: &Arc<Line<Pairs>>) -> Option<Batch<Pairs>> {
    line.waiting().begun = Instant::now() + Duration::from_hours(1);
    tokio::time::timeout(Duration::from_millis(1), line.next()).await.ok().flatten()
}

#[tokio::test]
async fn few_wait_for_the_transaction_under_way_and_then_go_together() {
    let (queue, line) = filled([(1, 0)]);
    let first = at_once(&line).await.expect("nobody is busy");
    for n in 1..WORTH {
        queue.offer((n as u64 + 1, n)).expect("there is room");
    }
    assert!(at_once(&line).await.is_none(), "a small transaction beside the first");
    drop(first);
    assert_eq!(at_once(&line).await.expect("nobody is busy any more").items.len(), WORTH - 1);
}

#[tokio::test]
async fn many_have_a_transaction_beside_the_first() {
    let (queue, line) = filled([(0, 0)]);
    let _first = at_once(&line).await.expect("nobody is busy");
    for n in 1..=WORTH {
        queue.offer((n as u64, n)).expect("there is room");
    }
    assert_eq!(at_once(&line).await.expect("it is worth it").items.len(), WORTH);
}

#[tokio::test]
async fn a_slow_transaction_holds_up_nobody_else() {
    let (queue, line) = filled([(0, 0)]);
    let _stuck = line.next().await.expect("nobody is busy");
    let idle = tokio::spawn({
        let line = line.clone();
        async move { line.next().await.map(|batch| batch.items.clone()) }
    });
    tokio::task::yield_now().await;
    queue.offer((1, 1)).expect("there is room");
    assert_eq!(idle.await.expect("it ran"), Some(vec![(1, 1)]));
}

#[tokio::test]
async fn one_way_is_never_in_two_transactions_and_keeps_its_order() {
    let (queue, line) = filled([(7, 0)]);
    let first = at_once(&line).await.expect("nobody is busy");
    let others: Vec<(u64, usize)> = (1..=WORTH).map(|n| (if n % 2 == 0 { 7 } else { 100 + n as u64 }, n)).collect();
    for item in &others {
        queue.offer(*item).expect("there is room");
    }
    let beside = at_once(&line).await.expect("it is worth it");
    assert!(beside.items.iter().all(|(way, _)| *way != 7), "{:?}", beside.items);
    queue.offer((7, 1_000)).expect("there is room");
    drop(first);
    drop(beside);
    let rest = at_once(&line).await.expect("nobody is busy any more");
    let waited: Vec<_> = others.into_iter().filter(|(way, _)| *way == 7).chain([(7, 1_000)]).collect();
    assert_eq!(rest.items, waited);
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_closed_one_ends_with_its_last_item() {
    let queue = Queue::new(Arc::new(Pairs), 2);
    let line = queue.line();
    assert!(queue.offer((1, 1)).is_ok() && queue.offer((1, 2)).is_ok());
    assert!(matches!(queue.offer((1, 3)), Err(StoreError::Overloaded)));
    drop(queue);
    let last = line.next().await.expect("two wait");
    assert_eq!(last.items.len(), 2);
    assert!(line.next().await.is_none() && line.next().await.is_none());
}

#[tokio::test]
async fn whoever_waits_is_told_when_the_flusher_is_gone() {
    let (queue, line) = filled([]);
    let answer = queue.offer((1, 1)).expect("there is room");
    drop(at_once(&line).await.expect("nobody is busy"));
    assert!(answer.await.is_err(), "an answer of nobody");
}
