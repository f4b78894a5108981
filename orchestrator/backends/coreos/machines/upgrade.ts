import { HostUnreachable, OrchestratorError, wording } from '../../../../common/errors.ts'

import type { Machine, UpgradeTask } from '../../../domain/machine.ts'
import { ask } from './ask.ts'
import type { CareContext } from './care-context.ts'
import { factsOf } from './facts.ts'
import { etcdWell } from './membership.ts'

/** The transient unit that installs: it goes on, and is found again, whatever happens to us. */
const UNIT = 'orchestrator-upgrade.service'
/** Where a machine may say itself how it is upgraded; it is given the wanted version, or nothing for the newest. */
const OWN = '/etc/orchestrator/upgrade'

/**
 * How each distribution is upgraded. Sources: rpm-ostree(1), `update_engine_client` and `flatcar-update` of Flatcar, apt-get(8).
 * $1 is the wanted version; '' is the newest.
 */
const INSTALL = `set -eu
if [ -x ${OWN} ]; then exec ${OWN} "$1"; fi
. /etc/os-release
if command -v rpm-ostree >/dev/null; then
  if [ -n "$1" ]; then exec rpm-ostree deploy "$1"; fi
  exec rpm-ostree upgrade
fi
case \${ID:-} in
flatcar)
  if [ -n "$1" ]; then exec flatcar-update --to-version "$1"; fi
  exec update_engine_client -update ;;
debian | ubuntu)
  if [ -z "$1" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    exec apt-get -q -y -o Dpkg::Options::=--force-confold dist-upgrade
  fi ;;
esac
echo "nobody knows how to upgrade \${PRETTY_NAME:-this system}\${1:+ to $1}: put an executable at ${OWN}" >&2
exit 1`

/** Milliseconds that each step may take before it counts as failed. */
const MOST_MS: Readonly<Record<UpgradeTask['step'], number>> = {
  checking: 120_000,
  installing: 3_600_000,
  restarting: 900_000,
  proving: 600_000,
}
/** Only the boot that it was asked of: the answer to an earlier call may have been lost in the restart itself. */
const RESTART = '[ "$(cat /proc/sys/kernel/random/boot_id)" != "$1" ] || exec systemctl reboot --no-block'
/** Milliseconds that the backend has to look for its instances. */
const LOOK_MS = 30_000
/** Milliseconds until the next look at a step that is under way. */
const AGAIN_MS = 1_000

/**
 * Takes an upgrade one step further. Every step may be repeated: what was done is seen on the machine itself.
 * @returns milliseconds until the next look, or null: it is over, well or not
 */
export async function stepUpgrade(
  context: CareContext,
  machine: Machine,
  task: UpgradeTask,
  stop: AbortSignal,
): Promise<number | null> {
  const { clock, inventory } = context
  try {
    const next = await STEPS[task.step](context, machine, task, stop)
    if (next === 'over') return await end(context, machine, task, null)
    if (next === 'again') return await inTime(context, machine, task, 'it takes too long')
    const since = next.step === task.step ? task.since : clock.now()
    await inventory.change(machine.name, (now) => (now.task === null ? null : { ...now, task: { ...next, since } }))
    return 0
  } catch (error) {
    stop.throwIfAborted()
    const passes = error instanceof HostUnreachable || (error instanceof OrchestratorError && error.retryable)
    if (passes) return await inTime(context, machine, task, wording(error, 500))
    return await end(context, machine, task, wording(error, 500))
  }
}

type Next = UpgradeTask | 'again' | 'over'
type Step = (context: CareContext, machine: Machine, task: UpgradeTask, stop: AbortSignal) => Promise<Next>

const STEPS: Readonly<Record<UpgradeTask['step'], Step>> = { checking, installing, restarting, proving }

/** Is it there, is it another version, and can the etcd cluster do without it? */
async function checking(context: CareContext, machine: Machine, task: UpgradeTask, stop: AbortSignal): Promise<Next> {
  const { shell, clock } = context
  const facts = await factsOf(shell, machine, clock.now(), stop)
  if (task.to !== null && facts.version === task.to) return 'over'
  await etcdWell(context, machine, stop)
  // What is left of an earlier upgrade would be taken for this one.
  await ask(shell, machine, ['sh', '-c', `systemctl stop ${UNIT}; systemctl reset-failed ${UNIT}`], stop)
  return { ...task, step: 'installing', boot: facts.boot }
}

async function installing(context: CareContext, machine: Machine, task: UpgradeTask, stop: AbortSignal): Promise<Next> {
  const { shell, clock } = context
  const facts = await factsOf(shell, machine, clock.now(), stop)
  // It restarted by itself, or by what installs: what that is worth shows in what it is now.
  if (facts.boot !== task.boot) return { ...task, step: 'proving' }
  const shown = await ask(shell, machine, ['systemctl', 'show', '-p', 'LoadState,ActiveState', UNIT], stop)
  const state = /^ActiveState=(.*)$/m.exec(shown.out)?.[1] ?? ''
  if (/^LoadState=not-found$/m.test(shown.out) || state === 'inactive') {
    const flags = ['--no-block', `--unit=${UNIT}`, '-p', 'Type=oneshot', '-p', 'RemainAfterExit=yes']
    const command = ['systemd-run', ...flags, '--', 'sh', '-c', INSTALL, 'sh', task.to ?? '']
    const { code, err } = await ask(shell, machine, command, stop)
    // Started by a call of ours whose answer got lost: the next look finds it.
    if (code === 0 || /already (exists|loaded)|fragment file/.test(err)) return 'again'
    throw new OrchestratorError('upgrade-failed', `the upgrade cannot be started: ${err.trim().slice(0, 300)}`)
  }
  if (state === 'activating') return 'again'
  if (state === 'active') return { ...task, step: 'restarting' }
  const log = await ask(shell, machine, ['journalctl', '-u', UNIT, '-n', '5', '-o', 'cat', '--no-pager'], stop)
  throw new OrchestratorError('upgrade-failed', `the upgrade failed: ${lastWords(log.out)}`)
}

async function restarting(context: CareContext, machine: Machine, task: UpgradeTask, stop: AbortSignal): Promise<Next> {
  const { shell, clock } = context
  const facts = await factsOf(shell, machine, clock.now(), stop)
  if (facts.boot !== task.boot) return { ...task, step: 'proving' }
  await ask(shell, machine, ['sh', '-c', RESTART, 'sh', facts.boot], stop)
  return 'again'
}

/** Is the system up, of the wanted version, its instances and its etcd well? */
async function proving(context: CareContext, machine: Machine, task: UpgradeTask, stop: AbortSignal): Promise<Next> {
  const { shell, clock, look } = context
  const facts = await factsOf(shell, machine, clock.now(), stop)
  if (task.to !== null && facts.version !== task.to) {
    throw new OrchestratorError(
      'upgrade-failed',
      `it runs version ${facts.version || '(unknown)'} after the restart, not ${task.to}`,
    )
  }
  const unwell = (reason: string) => new OrchestratorError('machine-unwell', reason, { retryable: true })
  if (facts.health !== 'running') {
    const units = facts.failed.length === 0 ? '' : `: ${facts.failed.join(', ')} failed`
    throw unwell(`the system is ${facts.health} after the restart${units}`)
  }
  await etcdWell(context, machine, stop)
  const signal = AbortSignal.any([stop, AbortSignal.timeout(LOOK_MS)])
  const stopped = (await look(machine.name, signal)).filter(({ state }) => state === 'stopped' || state === 'partial')
  if (stopped.length > 0) throw unwell(`${stopped.length} of its instances do not run, such as ${stopped[0]?.instance}`)
  return 'over'
}

/** Goes on while the step has time; else ends the task with the reason. */
async function inTime(context: CareContext, machine: Machine, task: UpgradeTask, why: string): Promise<number | null> {
  const waited = context.clock.now() - task.since
  if (waited < (context.patience?.[task.step] ?? MOST_MS[task.step])) return AGAIN_MS
  return await end(context, machine, task, `${task.step}: given up after ${Math.round(waited / 1000)} s: ${why}`)
}

/** @param fault null: it is well. A machine that failed stays cordoned. */
async function end(context: CareContext, machine: Machine, task: UpgradeTask, fault: string | null): Promise<null> {
  const { inventory, clock, tell } = context
  await inventory.change(machine.name, (now) => ({
    ...now,
    task: null,
    cordoned: fault === null ? task.wasCordoned : true,
    fault: fault === null ? null : { task: 'upgrade', message: fault, at: clock.now() },
    rolled: fault === null ? task.roll : now.rolled,
  }))
  if (fault === null) {
    await tell({ level: 'info', kind: 'machine.upgraded', message: `machine ${machine.name} is upgraded and well` })
  } else {
    const message = `the upgrade of machine ${machine.name} failed: ${fault}`
    await tell({ level: 'error', kind: 'machine.upgrade-failed', message })
  }
  return null
}

function lastWords(out: string): string {
  const lines = out.trim().split('\n')
  const own = lines.filter((line) => !/orchestrator-upgrade\.service/.test(line))
  return (own.at(-1) ?? lines.at(-1) ?? '').slice(0, 300) || 'it said nothing'
}
