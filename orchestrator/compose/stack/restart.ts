import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import { fieldsOf, given, isMap, type JsonMap, type Remarks, textOf } from './reading.ts'

export type Restart = NonNullable<ServiceInput['restart']>

const CONDITIONS: Readonly<Record<string, Restart>> = { none: 'no', 'on-failure': 'on-failure', any: 'always' }

/** `restart`, or `deploy.restart_policy.condition`, of a service; undefined: it says neither. */
export function restartOfService(service: JsonMap, key: string, remarks: Remarks): Restart | undefined {
  const value = given(service, 'restart')
  const short =
    value === undefined ? undefined : shortRestart(textOf(value, `${key}.restart`), `${key}.restart`, remarks)
  const deploy = given(service, 'deploy')
  const policy = isMap(deploy) ? given(deploy, 'restart_policy') : undefined
  if (policy === undefined) return short
  const at = `${key}.deploy.restart_policy`
  const condition = textOf(given(fieldsOf(policy, at, ['condition']), 'condition') ?? 'any', `${at}.condition`)
  const long = Object.hasOwn(CONDITIONS, condition) ? CONDITIONS[condition] : undefined
  if (long === undefined) throw new InvalidInput(`${at}.condition`, 'expected any, on-failure or none')
  if (short !== undefined && short !== long) {
    throw new InvalidInput(`${at}.condition`, `says something else than ${key}.restart: say one of them`)
  }
  return long
}

function shortRestart(text: string, key: string, remarks: Remarks): Restart {
  if (text === 'always' || text === 'unless-stopped') return 'always'
  if (text === 'no') return 'no'
  const [, most] = /^on-failure(?::(\d+))?$/.exec(text) ?? [undefined, null]
  if (most === null) throw new InvalidInput(key, 'expected "no", always, on-failure or unless-stopped')
  if (most !== undefined) {
    remarks.note(
      key,
      `is tried again for as long as the lease lasts, not ${most} times: hosts space restarts by themselves`,
    )
  }
  return 'on-failure'
}
