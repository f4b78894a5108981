import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  type CallOutcome,
  type Circuit,
  CLOSED,
  enter,
  CIRCUIT_LIMITS as LIMITS,
  leave,
  type Pass,
} from '../../orchestrator/domain/circuit.ts'

const failing = (times: number, now: number, from: Circuit = CLOSED): Circuit =>
  Array.from({ length: times }).reduce<Circuit>((circuit) => leave(circuit, 'call', 'unreachable', LIMITS, now), from)

describe('the circuit of a target', () => {
  it('opens after that many calls in a row without an answer, and not before', () => {
    assert.equal(failing(LIMITS.failures - 1, 0).state, 'closed')
    assert.deepEqual(failing(LIMITS.failures, 7), { state: 'open', since: 7, until: 7 + LIMITS.firstMs, times: 1 })
    const between = leave(failing(LIMITS.failures - 1, 0), 'call', 'answered', LIMITS, 0)
    assert.equal(failing(LIMITS.failures - 1, 0, between).state, 'closed')
  })

  it('lets one call try when its time is over, and no stream', () => {
    const open = failing(LIMITS.failures, 0)
    assert.equal(enter(open, false, LIMITS.firstMs - 1).pass, null)
    assert.equal(enter(open, true, LIMITS.firstMs).pass, null)
    const trial = enter(open, false, LIMITS.firstMs)
    assert.equal(trial.pass, 'trial')
    assert.equal(enter(trial.circuit, false, LIMITS.firstMs).pass, null)
    assert.deepEqual(leave(trial.circuit, 'trial', 'answered', LIMITS, LIMITS.firstMs), CLOSED)
  })

  it('stays open twice as long each time that the trial fails, up to a limit, since the same moment', () => {
    let circuit = failing(LIMITS.failures, 5)
    const lengths: number[] = []
    let now = 5
    for (let round = 0; round < 6; round++) {
      assert.ok(circuit.state === 'open')
      lengths.push(circuit.until - now)
      now = circuit.until
      circuit = leave(enter(circuit, false, now).circuit, 'trial', 'unreachable', LIMITS, now)
    }
    assert.deepEqual(lengths, [15_000, 30_000, 60_000, 120_000, 120_000, 120_000])
    assert.equal(circuit.state === 'open' && circuit.since, 5)
  })

  it('tries again at once when the trial was ended before it told anything', () => {
    const open = failing(LIMITS.failures, 0)
    const { circuit } = enter(open, false, 20_000)
    const after = leave(circuit, 'trial', 'unclear', LIMITS, 20_001)
    assert.equal(enter(after, false, 20_001).pass, 'trial')
  })

  type Step = {
    readonly waitMs: number
    readonly outcome: CallOutcome
    readonly lasting: boolean
    readonly late: boolean
  }
  const steps: fc.Arbitrary<Step[]> = fc.array(
    fc.record({
      waitMs: fc.integer({ min: 0, max: 200_000 }),
      outcome: fc.constantFrom<CallOutcome>('answered', 'unreachable', 'unclear'),
      lasting: fc.boolean(),
      late: fc.boolean(),
    }),
    { maxLength: 60 },
  )

  it('whatever happens: at most one trial at once, nothing refused for longer than its limit, an answer closes it', () => {
    fc.assert(
      fc.property(steps, (given) => {
        let circuit: Circuit = CLOSED
        let now = 0
        const under: { pass: Pass; outcome: CallOutcome }[] = []
        const end = (one: { pass: Pass; outcome: CallOutcome }) => {
          circuit = leave(circuit, one.pass, one.outcome, LIMITS, now)
          if (one.outcome === 'answered') assert.deepEqual(circuit, CLOSED)
        }
        for (const { waitMs, outcome, lasting, late } of given) {
          now += waitMs
          const before = circuit
          const { pass, circuit: next } = enter(circuit, lasting, now)
          circuit = next
          if (before.state === 'closed') assert.equal(pass, 'call')
          if (before.state === 'open') assert.ok(before.until - now <= LIMITS.mostMs)
          if (before.state === 'open' && before.until <= now && !lasting) assert.equal(pass, 'trial')
          if (pass !== null && late) under.push({ pass, outcome })
          else if (pass !== null) end({ pass, outcome })
          assert.ok(under.filter((one) => one.pass === 'trial').length <= 1 || circuit.state === 'closed')
          if (!late) for (const one of under.splice(0)) end(one)
        }
        for (const one of under.splice(0)) end(one)
        assert.notEqual(circuit.state, 'half-open', 'no trial is forgotten')
      }),
      { numRuns: 500 },
    )
  })
})
