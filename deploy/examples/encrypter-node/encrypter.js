#!/usr/bin/env node
// An encrypter for cipherfleet's `transform: external`, with nothing but Node itself: it answers requests on a NATS
// subject, and seals each value with AES-256-GCM. See README.md beside it, and docs/external.md for the contract.
'use strict'

const { createCipheriv, randomBytes } = require('node:crypto')
const { readFileSync } = require('node:fs')
const net = require('node:net')
const tls = require('node:tls')

const env = process.env
const subject = env.ENCRYPTER_SUBJECT || 'crypto.encrypt'
const form = env.ENCRYPTER_FORM || 'json' // json, text or bytea: what the target column's type reads
const key = Buffer.from(env.ENCRYPTER_KEY || '', 'hex')
if (key.length !== 32 || !['json', 'text', 'bytea'].includes(form)) {
  console.error('ENCRYPTER_KEY must be 64 hexadecimal digits, and ENCRYPTER_FORM json, text or bytea')
  process.exit(2)
}

// seal is nonce, ciphertext and tag of one value, bound to its column: in another one it does not open.
function seal (column, value) {
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', key, nonce)
  cipher.setAAD(Buffer.from(column, 'utf8'))
  return Buffer.concat([nonce, cipher.update(value, 'utf8'), cipher.final(), cipher.getAuthTag()])
}

function result (request, value) {
  const sealed = seal(`${request.table}.${request.column}`, value)
  if (form === 'bytea') return '\\x' + sealed.toString('hex')
  if (form === 'text') return 'enc1:' + sealed.toString('base64')
  const table = request.table.slice(request.table.indexOf('.') + 1)
  return { v: 2, i: { t: table, c: request.column }, c: sealed.toString('base64') }
}

// answer is the whole contract: as many results as values, with their ids, in their order. What goes wrong is told
// without quoting a value, and cipherfleet asks again later.
function answer (body) {
  try {
    const request = JSON.parse(body.toString('utf8'))
    if (request.v !== 1) return { v: 1, error: 'this encrypter knows version 1' }
    return { v: 1, results: request.values.map(({ id, value }) => ({ id, value: result(request, value) })) }
  } catch {
    return { v: 1, error: 'the request cannot be read' }
  }
}

// The client's side of the NATS protocol, as much as is needed: https://docs.nats.io/reference/reference-protocols/nats-protocol
let connection
let stopping = false

function connect () {
  const url = new URL(env.NATS_URL || 'nats://127.0.0.1:4222')
  let input = Buffer.alloc(0)
  const socket = net.connect(Number(url.port) || 4222, url.hostname)
  connection = socket

  const login = () => ({
    verbose: false,
    pedantic: false,
    headers: false,
    lang: 'node',
    version: '1',
    name: 'encrypter',
    auth_token: env.NATS_TOKEN_FILE ? readFileSync(env.NATS_TOKEN_FILE, 'utf8').trim() : env.NATS_TOKEN || undefined,
    user: decodeURIComponent(url.username) || undefined,
    pass: decodeURIComponent(url.password) || undefined
  })

  // A queue group: of several encrypters one gets each request.
  const begin = () => connection.write(`CONNECT ${JSON.stringify(login())}\r\nSUB ${subject} encrypters 1\r\nPING\r\n`)

  let greeted = false // the server repeats its INFO when it has news
  const greet = (info) => {
    if (greeted) return
    greeted = true
    if (!info.tls_required && url.protocol !== 'tls:') return begin()
    socket.removeAllListeners('data')
    connection = tls.connect({ socket, servername: url.hostname, ca: env.NATS_CA ? readFileSync(env.NATS_CA) : undefined }, begin)
    connection.on('data', take).on('error', tell)
  }

  const handle = (line) => {
    const [verb, ...words] = line.split(/\s+/)
    switch (verb.toUpperCase()) {
      case 'INFO': greet(JSON.parse(line.slice(5))); break
      case 'PING': connection.write('PONG\r\n'); break
      case 'PONG': console.error(`listening on ${subject}`); break
      case '-ERR': console.error(`NATS: ${line.slice(5)}`); break
      case 'MSG': return { reply: words.length === 4 ? words[2] : '', size: Number(words[words.length - 1]) }
    }
  }

  let message // whose body is being awaited
  const take = (data) => {
    input = Buffer.concat([input, data])
    for (;;) {
      if (message) {
        if (input.length < message.size + 2) return
        const body = Buffer.from(JSON.stringify(answer(input.subarray(0, message.size))))
        if (message.reply) connection.write(Buffer.concat([Buffer.from(`PUB ${message.reply} ${body.length}\r\n`), body, Buffer.from('\r\n')]))
        input = input.subarray(message.size + 2)
        message = undefined
        continue
      }
      const end = input.indexOf('\r\n')
      if (end < 0) return
      const line = input.subarray(0, end).toString('utf8')
      input = input.subarray(end + 2)
      message = handle(line)
    }
  }

  const tell = (error) => console.error(`NATS: ${error.code || error.message}`)
  socket.on('data', take).on('error', tell).on('close', () => { if (!stopping) setTimeout(connect, 500) })
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => { stopping = true; connection.end(); setTimeout(() => process.exit(0), 100).unref() })
}
connect()
