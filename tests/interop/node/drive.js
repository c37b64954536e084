// Does with imapflow what the lines of its standard input say, and answers each by a line.
//
// A line is [object, method, arguments]; the object is a client's name ("open" makes one), the answer ["ok", result]
// or ["failed", words]. What JSON has no word for is written as: Set and Map as array and object, Buffer as latin-1,
// BigInt as a string, Date as ISO 8601. The conversation goes to standard error, as JSON lines of imapflow's own log.

'use strict';

const readline = require('node:readline');
const { ImapFlow } = require('imapflow');

const clients = new Map();
const events = new Map();

function plain(value) {
    if (typeof value === 'bigint') return String(value);
    if (Buffer.isBuffer(value)) return value.toString('latin1');
    if (value instanceof Date) return value.toISOString();
    if (value instanceof Set || Array.isArray(value)) return Array.from(value, plain);
    if (value instanceof Map) return plain(Object.fromEntries(value));
    if (value && typeof value === 'object') {
        return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
    }
    return value;
}

function log(level) {
    return entry => process.stderr.write(JSON.stringify(plain({ level, ...entry, err: entry.err && String(entry.err.stack) })) + '\n');
}

const logger = Object.fromEntries(['trace', 'debug', 'info', 'warn', 'error', 'fatal'].map(level => [level, log(level)]));

async function open(name, options) {
    const client = new ImapFlow({ ...options, logger, logRaw: false });
    events.set(name, []);
    for (const kind of ['exists', 'expunge', 'flags', 'error', 'close']) {
        client.on(kind, event => events.get(name).push([kind, plain(event)]));
    }
    clients.set(name, client);
    await client.connect();
    return Object.fromEntries(client.capabilities);
}

async function perform([name, method, parameters]) {
    if (method === 'open') return open(name, ...parameters);
    if (method === 'events') return events.get(name).splice(0);
    if (method === 'enabled') return clients.get(name).enabled;
    return clients.get(name)[method](...parameters);
}

async function serve() {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        let answer;
        try {
            answer = ['ok', plain(await perform(JSON.parse(line)))];
        } catch (error) {
            answer = ['failed', `${error.stack}\n${error.response ? JSON.stringify(plain(error.response)) : ''}`];
        }
        process.stdout.write(JSON.stringify(answer) + '\n');
    }
}

serve();
