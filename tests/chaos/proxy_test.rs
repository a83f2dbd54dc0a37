//! The proxy's own test: each fault is seen at a connection through it. Runs before every scenario, because a proxy that
//! does no harm would prove nothing.

use crate::proxy::{Fault, Link, Proxy};
use crate::wire::Commits;
use anyhow::{Context, Result, bail, ensure};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// Longer than anything that should happen, and how long nothing is waited for.
const LONG: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(60);

/// Fails with the first fault that is none.
pub(crate) async fn run() -> Result<usize> {
    commits_are_seen()?;
    losses_cost_time()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let server = tokio::spawn(echo(listener));
    let result = faults(port).await;
    server.abort();
    result?;
    Ok(10)
}

async fn echo(listener: TcpListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut from, mut to) = client.split();
            tokio::io::copy(&mut from, &mut to).await.ok();
        });
    }
}

async fn faults(port: u16) -> Result<()> {
    let proxy = Proxy::start(port)?;
    let mut old = connect(&proxy).await.context("pass")?;
    says(&mut old, b"one").await.context("pass")?;

    proxy.set(Fault::Link(Link { latency: Duration::from_millis(40), ..Link::default() }));
    let began = Instant::now();
    says(&mut old, b"two").await.context("latency")?;
    ensure!(began.elapsed() >= Duration::from_millis(80), "latency is there and back: {:?}", began.elapsed());

    proxy.set(Fault::Link(Link { bandwidth: 20_000, ..Link::default() }));
    let began = Instant::now();
    says(&mut old, &[7; 1_000]).await.context("bandwidth")?;
    ensure!(began.elapsed() >= Duration::from_millis(90), "1,000 bytes there and back took {:?}", began.elapsed());

    proxy.set(Fault::Stall);
    old.write_all(b"held").await?;
    ensure!(is_silent(&mut old).await, "stall: something came through");
    proxy.heal();
    hears(&mut old, b"held").await.context("stall")?;

    proxy.set(Fault::Refuse);
    let deadline = Instant::now() + LONG;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.is_ok() {
        ensure!(Instant::now() < deadline, "refuse: somebody listens");
    }
    says(&mut old, b"still here").await.context("refuse")?;
    proxy.heal();
    let mut unused = opened(&proxy).await.context("after refuse")?;

    proxy.set(Fault::BlackHole);
    old.write_all(b"gone").await?;
    ensure!(is_silent(&mut old).await, "black hole: something came through");
    let mut new = connect(&proxy).await.context("black hole: a new connection hangs, it does not fail")?;
    new.write_all(b"hello?").await?;
    ensure!(is_silent(&mut new).await, "black hole: a new connection is answered");
    proxy.heal();
    is_reset(&mut old).await.context("after a black hole")?;
    is_reset(&mut new).await.context("opened in a black hole")?;
    says(&mut unused, b"slept").await.context("silent in a black hole")?;

    let mut old = opened(&proxy).await?;
    proxy.cut();
    is_reset(&mut old).await.context("cut")?;
    says(&mut connect(&proxy).await?, b"new").await.context("after a cut")?;

    let mut old = opened(&proxy).await?;
    proxy.cut_after(5);
    old.write_all(b"12345678").await?;
    hears(&mut old, b"12345").await.context("cut after five bytes")?;
    is_reset(&mut old).await.context("cut after five bytes")?;

    proxy.set(Fault::Reset);
    is_reset(&mut connect(&proxy).await?).await.context("reset")?;

    proxy.set(Fault::CutCommits(2));
    let mut old = connect(&proxy).await?;
    says(&mut old, &message(b'C', b"COMMIT\0")).await.context("the first commit is told")?;
    old.write_all(&message(b'C', b"COMMIT\0")).await?;
    is_reset(&mut old).await.context("the second commit is not told")?;
    ensure!(proxy.untold() == 1, "{} commits were not told", proxy.untold());
    Ok(())
}

async fn connect(proxy: &Proxy) -> Result<TcpStream> {
    let deadline = Instant::now() + LONG;
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await {
            Ok(stream) => return Ok(stream),
            // The change that makes it listen again has not come through yet.
            Err(_) if Instant::now() < deadline => tokio::task::yield_now().await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A connection that the proxy knows of.
async fn opened(proxy: &Proxy) -> Result<TcpStream> {
    let mut stream = connect(proxy).await?;
    says(&mut stream, b"hello").await?;
    Ok(stream)
}

async fn says(stream: &mut TcpStream, what: &[u8]) -> Result<()> {
    stream.write_all(what).await?;
    hears(stream, what).await
}

async fn hears(stream: &mut TcpStream, what: &[u8]) -> Result<()> {
    let mut heard = vec![0; what.len()];
    timeout(LONG, stream.read_exact(&mut heard)).await.context("nothing came")??;
    ensure!(heard == what, "something else came: {heard:?}");
    Ok(())
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(SILENCE, stream.read_u8()).await.is_err()
}

async fn is_reset(stream: &mut TcpStream) -> Result<()> {
    match timeout(LONG, stream.read_u8()).await.context("nothing came")? {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => bail!("no reset, but {other:?}"),
    }
}

/// A message as a server sends it.
fn message(kind: u8, text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len() + 4).unwrap_or_default();
    [&[kind][..], &length.to_be_bytes(), text].concat()
}

fn commits_are_seen() -> Result<()> {
    let complete = |tag: &str| message(b'C', format!("{tag}\0").as_bytes());
    let ready = |state: &[u8]| message(b'Z', state);
    let cases: [(&str, Vec<Vec<u8>>, usize); 9] = [
        (
            "a transaction",
            vec![complete("BEGIN"), ready(b"T"), complete("INSERT 0 1"), ready(b"T"), complete("COMMIT")],
            1,
        ),
        ("its end", vec![complete("INSERT 0 1"), complete("COMMIT"), ready(b"I")], 1),
        ("a single statement", vec![complete("UPDATE 3"), ready(b"I")], 1),
        ("a query", vec![complete("SELECT 1"), ready(b"I")], 0),
        ("a transaction that fails", vec![complete("UPDATE 1"), message(b'E', b"x\0"), ready(b"E")], 0),
        ("one that is undone", vec![complete("UPDATE 1"), complete("ROLLBACK"), ready(b"I")], 0),
        ("a row that looks like it", vec![message(b'D', b"C\0\0\0\x0bCOMMIT\0"), complete("SELECT 1"), ready(b"I")], 0),
        ("a long row before it", vec![message(b'D', &[b'C'; 1_000]), complete("COMMIT")], 1),
        ("two in a row", vec![complete("COMMIT"), ready(b"I"), complete("INSERT 0 1"), ready(b"I")], 2),
    ];
    for (name, messages, wanted) in cases {
        let bytes = messages.concat();
        for size in [1, 3, 7, bytes.len()] {
            let mut commits = Commits::default();
            let found: usize = bytes.chunks(size).map(|piece| commits.count(piece)).sum();
            ensure!(found == wanted, "{name}, in pieces of {size}: {found} commits instead of {wanted}");
        }
    }
    let mut commits = Commits::default();
    ensure!(commits.count(b"N") == 0 && commits.count(&complete("COMMIT")) == 1, "no TLS, and then a commit");
    Ok(())
}

fn losses_cost_time() -> Result<()> {
    let link = Link { loss: 0.3, ..Link::default() };
    let (now, mut random) = (Instant::now(), fastrand::Rng::with_seed(7));
    let lost = (0..1_000).filter(|_| link.arrival(now, now, 1, &mut random) > now).count();
    ensure!((250..350).contains(&lost), "of 1,000 pieces {lost} were lost");
    let behind = now + LONG;
    ensure!(link.arrival(now, behind, 1, &mut random) >= behind, "a piece overtook another");
    Ok(())
}
