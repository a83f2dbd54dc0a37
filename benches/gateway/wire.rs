//! As much of HTTP/1.1 as the load generator and the sink need: where a message ends. It must cost next to nothing,
//! because both take their share of the machine that is measured.

/// One complete message at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Length of the head, empty line included.
    pub(crate) head: usize,
    /// Length of head and body.
    pub(crate) whole: usize,
}

/// The first message in `bytes`, when all of it is there.
pub(crate) fn frame(bytes: &[u8]) -> Option<Frame> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let body = header(&bytes[..head], "content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    (bytes.len() >= head + body).then_some(Frame { head, whole: head + body })
}

/// The value of a header.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The status of an answer.
pub(crate) fn status(head: &[u8]) -> u16 {
    head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}

/// Checks the above, before anything is measured with it.
pub(crate) fn self_test() -> anyhow::Result<()> {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\nokHTTP/1.1";
    anyhow::ensure!(frame(answer) == Some(Frame { head: 44, whole: 46 }), "a frame is not found");
    anyhow::ensure!(frame(&answer[..45]).is_none(), "half a body is taken for all of it");
    anyhow::ensure!(header(answer, "X") == Some(b"y"), "a header is not found");
    anyhow::ensure!(status(answer) == 200, "a status is not read");
    Ok(())
}
