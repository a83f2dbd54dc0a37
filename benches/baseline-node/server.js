// What one would write by hand instead of Birdwire, as well as that can reasonably be done: it verifies Bird's
// signature, maps the message to VoIPBIN's record, and forwards it signed. There is one process and one subscriber, and
// there are no retries after a crash of the subscriber, no order and no erasing. So what it is compared with does more.
//
// Without STORE it keeps nothing: it answers Bird when the subscriber has answered. With STORE=file it commits every
// message to SQLite, answers, and forwards afterwards; what was not forwarded is sent again at the next start.
'use strict';

const crypto = require('node:crypto');
const fastify = require('fastify');
const { Pool } = require('undici');

const { PORT, SINK, SIGNING_KEY, SIGNED_URL, SUBSCRIBER_SECRET, ACCOUNT, STORE } = process.env;
const CONCURRENCY = 64;
const NEVER = '9999-01-01 00:00:00.000000';

const standardKey = Buffer.from(SUBSCRIBER_SECRET.replace(/^whsec_/, ''), 'base64');
const pool = new Pool(SINK, { connections: CONCURRENCY, pipelining: 1 });

function isGenuine(headers, body) {
  const time = headers['messagebird-request-timestamp'];
  const given = Buffer.from(headers['messagebird-signature'] ?? '', 'base64');
  if (!time || Math.abs(Date.now() / 1000 - Number(time)) > 48 * 3600) return false;
  const hash = crypto.createHash('sha256').update(body).digest();
  const expected = crypto.createHmac('sha256', SIGNING_KEY).update(`${time}\n${SIGNED_URL}\n`).update(hash).digest();
  return given.length === expected.length && crypto.timingSafeEqual(given, expected);
}

/** The same text, the same id. */
function idOf(text) {
  const hex = crypto.createHash('sha1').update(ACCOUNT).update(text).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

function timeOf(text) {
  return `${new Date(text).toISOString().slice(0, 23).replace('T', ' ')}000`;
}

/** Bird's message as VoIPBIN writes it. */
function map(message) {
  const contact = message.sender.contact;
  const data = {
    id: message.id,
    conversation_id: idOf(`line:${contact.identifierValue}`),
    direction: 'incoming',
    status: 'received',
    reference_type: 'line',
    reference_id: contact.identifierValue,
    source: {
      type: 'line',
      target: contact.identifierValue,
      target_name: contact.annotations?.name ?? '',
      name: '',
      detail: '',
    },
    text: message.body.text.text,
    medias: [],
    tm_create: timeOf(message.createdAt),
    tm_update: timeOf(message.updatedAt),
    tm_delete: NEVER,
  };
  return { id: idOf(`conversation_message_created:${message.id}`), body: JSON.stringify({ type: 'conversation_message_created', data }) };
}

/** Whether the subscriber took it. */
async function forward({ id, body }) {
  const time = Math.floor(Date.now() / 1000).toString();
  const standard = crypto.createHmac('sha256', standardKey).update(`${id}.${time}.${body}`).digest('base64');
  const voipbin = crypto.createHmac('sha256', SUBSCRIBER_SECRET).update(body).digest('hex');
  const answer = await pool.request({
    method: 'POST',
    path: '/0',
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': time,
      'webhook-signature': `v1,${standard}`,
      'x-voipbin-signature': `sha256=${voipbin}`,
    },
    body,
  });
  await answer.body.dump();
  return answer.statusCode >= 200 && answer.statusCode < 300;
}

/** Keeps messages in SQLite, and forwards what is kept. */
function openStore(file) {
  const db = require('better-sqlite3')(file);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.exec(`
    CREATE TABLE IF NOT EXISTS messages (
      row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, received_at INTEGER NOT NULL, raw BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS outbox (row INTEGER PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL);
  `);
  const insert = db.prepare('INSERT INTO messages (id, received_at, raw) VALUES (?, ?, ?) ON CONFLICT DO NOTHING');
  const owe = db.prepare('INSERT INTO outbox (id, body) VALUES (?, ?)');
  const done = db.prepare('DELETE FROM outbox WHERE row = ?');
  const waiting = db.prepare('SELECT row, id, body FROM outbox ORDER BY row').all();
  let active = 0;

  const work = () => {
    while (active < CONCURRENCY && waiting.length > 0) {
      const event = waiting.shift();
      active += 1;
      forward(event)
        .then((taken) => {
          if (taken) done.run(event.row);
          else setTimeout(() => waiting.push(event), 1000);
        }, () => setTimeout(() => waiting.push(event), 1000))
        .finally(() => {
          active -= 1;
          work();
        });
    }
  };
  const keep = db.transaction((message, raw) => {
    if (insert.run(message.id, Date.now(), raw).changes === 0) return null; // a repeat
    const event = map(message);
    return { row: owe.run(event.id, event.body).lastInsertRowid, ...event };
  });
  work();
  return (message, raw) => {
    const event = keep(message, raw);
    if (event) {
      waiting.push(event);
      work();
    }
  };
}

const keep = STORE ? openStore(STORE) : null;
const app = fastify({ logger: false });
app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
app.post(`/v1.0/conversation/accounts/${ACCOUNT}`, async (request, reply) => {
  if (!isGenuine(request.headers, request.body)) return reply.code(401).send();
  const message = JSON.parse(request.body);
  if (keep) {
    keep(message, request.body);
    return reply.code(200).send();
  }
  return reply.code((await forward(map(message))) ? 200 : 502).send();
});
app.listen({ port: Number(PORT), host: '127.0.0.1' });
