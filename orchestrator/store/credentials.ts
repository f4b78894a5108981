import type { Knex } from 'knex'
import type { StoredCredential } from './store.ts'

interface CredentialRow {
  name: string
  sealed: string
  fields: string
  changed_at: number
}

export async function putCredential(db: Knex, credential: StoredCredential): Promise<void> {
  const { name, sealed, fields, changedAt } = credential
  const row: CredentialRow = { name, sealed: sealed.sealed, fields: JSON.stringify(fields), changed_at: changedAt }
  await db('credentials').insert(row).onConflict('name').merge()
}

export async function credentialNamed(db: Knex, name: string): Promise<StoredCredential | null> {
  const row = await db<CredentialRow>('credentials').where({ name }).first()
  return row ? credentialOf(row) : null
}

export async function credentials(db: Knex): Promise<readonly StoredCredential[]> {
  return (await db<CredentialRow>('credentials').orderBy('name')).map(credentialOf)
}

export async function removeCredential(db: Knex, name: string): Promise<boolean> {
  return (await db('credentials').where({ name }).delete()) === 1
}

function credentialOf({ name, sealed, fields, changed_at: changedAt }: CredentialRow): StoredCredential {
  return { name, sealed: { sealed }, fields: JSON.parse(fields) as string[], changedAt }
}
