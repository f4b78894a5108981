import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import { booleanOf, given, type JsonMap, listOf, type Remarks, textOf } from './reading.ts'

/** `privileged` and `security_opt` of a service. */
export function securityOfService(
  service: JsonMap,
  key: string,
  remarks: Remarks,
): Pick<ServiceInput, 'privileged' | 'noNewPrivileges' | 'securityOptions'> {
  const [wanted, value] = [given(service, 'privileged'), given(service, 'security_opt')]
  const privileged = wanted !== undefined && booleanOf(wanted, `${key}.privileged`)
  if (privileged) remarks.weaken(`${key}.privileged`)
  let noNewPrivileges = true
  const securityOptions: string[] = []
  for (const [index, item] of (value === undefined ? [] : listOf(value, `${key}.security_opt`)).entries()) {
    const at = `${key}.security_opt[${index}]`
    const option = optionOf(textOf(item, at), at)
    if (option === 'no-new-privileges=true') continue
    remarks.weaken(at)
    if (option === 'no-new-privileges=false') noNewPrivileges = false
    else securityOptions.push(option)
  }
  return {
    ...(privileged ? { privileged } : {}),
    ...(noNewPrivileges ? {} : { noNewPrivileges }),
    ...(securityOptions.length === 0 ? {} : { securityOptions }),
  }
}

/** `NAME=VALUE`; Docker also takes a colon. */
function optionOf(text: string, key: string): string {
  const [, name = '', value] = /^([a-z-]+)(?:[=:](.+))?$/.exec(text) ?? []
  if (name === 'no-new-privileges') return `${name}=${booleanOf(value ?? true, key)}`
  if (name === 'seccomp') {
    if (value === 'unconfined') return 'seccomp=unconfined'
    throw new InvalidInput(key, 'profiles of seccomp are not supported yet: expected seccomp=unconfined or nothing')
  }
  if ((name === 'apparmor' || name === 'label') && value !== undefined) return `${name}=${value}`
  const known = 'no-new-privileges, seccomp, apparmor and label'
  throw new InvalidInput(key, `${text} is not supported: the options of security are ${known}`)
}
