import { execFileSync, spawn } from 'node:child_process'
import { chownSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { until } from './until.ts'

/** A PostgreSQL server of the test's own, on a Unix socket in a temporary folder. */
export interface Postgres {
  /** Makes an empty database and returns its URL. */
  database(): Promise<string>
  stop(): Promise<void>
}

/** Starts a server from Debian's packages as the user `postgres`, which refuses to run as root. */
export async function startPostgres(): Promise<Postgres> {
  const directory = mkdtempSync('/tmp/orchestrator-pg-')
  const uid = Number(execFileSync('id', ['-u', 'postgres'], { encoding: 'utf8' }))
  chownSync(directory, uid, -1)
  const bin = binaries()
  const data = join(directory, 'data')
  const as = ['--reuid=postgres', '--regid=postgres', '--init-groups', '--']
  execFileSync('setpriv', [...as, join(bin, 'initdb'), '-D', data, '-A', 'trust', '-N', '-E', 'UTF8', '--locale=C'], {
    cwd: directory,
    stdio: 'ignore',
  })
  const server = spawn('setpriv', [...as, join(bin, 'postgres'), '-D', data, '-k', directory, '-h', ''], {
    cwd: directory,
    stdio: 'ignore',
  })
  const exited = new Promise<void>((resolve) => server.once('exit', () => resolve()))
  const url = (name: string) => `postgres://postgres@localhost/${name}?host=${encodeURIComponent(directory)}`
  const query = async (sql: string) => {
    const client = new pg.Client({ connectionString: url('postgres') })
    await client.connect()
    try {
      await client.query(sql)
    } finally {
      await client.end()
    }
  }
  const answers = () => query('select 1').then(() => true)
  await until('PostgreSQL answers', answers, { deadlineMs: 60_000 })
  let count = 0
  return {
    async database() {
      const name = `t${++count}`
      await query(`create database ${name}`)
      return url(name)
    },
    async stop() {
      server.kill('SIGINT')
      await exited
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

function binaries(): string {
  const versions = readdirSync('/usr/lib/postgresql').sort((a, b) => Number(b) - Number(a))
  if (versions[0] === undefined) throw new Error('PostgreSQL is not installed')
  return join('/usr/lib/postgresql', versions[0], 'bin')
}
