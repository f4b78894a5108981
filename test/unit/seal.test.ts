import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { OrchestratorError } from '../../common/errors.ts'
import { openSeal } from '../../orchestrator/pki/seal.ts'

describe('the seal of secrets', () => {
  const made: string[] = []
  const directory = () => {
    const path = mkdtempSync('/tmp/orchestrator-seal-')
    made.push(path)
    return path
  }
  after(() => {
    for (const path of made) rmSync(path, { recursive: true })
  })
  const broken = (words: RegExp) => (error: unknown) =>
    error instanceof OrchestratorError && error.code === 'seal-broken' && words.test(error.message)

  it('opens what it sealed, after a restart too, and never seals the same to the same', async () => {
    const path = directory()
    const seal = await openSeal(path)
    const again = await openSeal(path)
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (secret) => {
        const sealed = seal.seal('PIN', secret)
        assert.equal(again.open('PIN', sealed), secret)
        assert.notEqual(seal.seal('PIN', secret).sealed, sealed.sealed)
        assert.match(sealed.sealed, /^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]+$/)
      }),
      { numRuns: 50 },
    )
    assert.deepEqual(seal.openAll({ PIN: seal.seal('PIN', 'x'), N: 1, ON: true }), { PIN: 'x', N: 1, ON: true })
  })

  it('keeps its key for itself', async () => {
    const path = directory()
    await openSeal(path)
    const file = join(path, 'seal.key')
    assert.equal(statSync(file).mode & 0o777, 0o600)
    chmodSync(file, 0o644)
    await openSeal(path)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    writeFileSync(file, 'short')
    await assert.rejects(openSeal(path), /seal\.key holds no key/)
  })

  it('opens nothing for another parameter, of another key, or that was changed in any place', async () => {
    const [seal, other] = [await openSeal(directory()), await openSeal(directory())]
    const { sealed } = seal.seal('PIN', 'hunter2')
    assert.throws(() => seal.open('TITLE', { sealed }), broken(/TITLE was changed/))
    assert.throws(() => other.open('PIN', { sealed }), broken(/another key.*give all of them the same/))
    const bytes = Buffer.from(sealed.split('.')[2] ?? '', 'base64url')
    for (const index of bytes.keys()) {
      const changed = Buffer.from(bytes)
      changed[index] = (changed[index] ?? 0) ^ 1
      const text = `${sealed.slice(0, 12)}${changed.toString('base64url')}`
      assert.throws(() => seal.open('PIN', { sealed: text }), broken(/was changed/), `byte ${index}`)
    }
    for (const text of ['', 'v1', 'v2.x.y', `${sealed.slice(0, 12)}AAAA`]) {
      assert.throws(() => seal.open('PIN', { sealed: text }), broken(/was changed/), text)
    }
  })
})
