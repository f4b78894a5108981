import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { InstanceId } from '../../orchestrator/domain/instance.ts'
import { labelFrom, nameCandidates } from '../../orchestrator/domain/naming.ts'

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const id = 'i-0123456789' as InstanceId
const hostnames = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.string({ unit: fc.constantFrom(...'aZ09-_. ä$'), maxLength: 300 }),
  fc.domain(),
)

describe('names', () => {
  it('are valid DNS labels, whatever a stranger calls its device', () => {
    fc.assert(
      fc.property(hostnames, (hostname) => {
        const label = labelFrom(hostname)
        if (label !== null) assert.match(label, LABEL)
        for (const name of nameCandidates(hostname, id)) assert.match(name, LABEL)
      }),
      { numRuns: 3000 },
    )
  })

  it('end with the id, which nobody else has, and none comes twice', () => {
    fc.assert(
      fc.property(fc.option(hostnames, { nil: undefined }), (hostname) => {
        const names = nameCandidates(hostname, id)
        assert.equal(names.at(-1), id)
        assert.equal(new Set(names).size, names.length)
      }),
    )
  })

  it('keep an ordinary hostname as it is, without its domain', () => {
    assert.equal(labelFrom('Laptop-7.example.org'), 'laptop-7')
    assert.deepEqual(nameCandidates('laptop', id), ['laptop', 'laptop-6789', id])
  })

  it('never mean something else in the domain, nor an internationalized name', () => {
    for (const hostname of ['my', 'MY', 'my.instance', '-my-', 'localhost', 'Gateway', '', '...', '…', undefined]) {
      assert.equal(labelFrom(hostname), null, String(hostname))
    }
    assert.equal(labelFrom('xn--mnchen-3ya'), 'xn-mnchen-3ya')
  })

  it('fit into 63 octets with the tail of the id', () => {
    const [first, second] = nameCandidates(`${'a'.repeat(57)}-${'b'.repeat(20)}`, id)
    assert.equal(first, `${'a'.repeat(57)}-bbbbb`)
    assert.equal(second, `${'a'.repeat(57)}-6789`)
  })
})
