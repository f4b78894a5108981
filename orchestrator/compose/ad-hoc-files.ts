import type { Json } from '../domain/template.ts'
import type { Extension } from './extension.ts'
import type { FaultList } from './fault-list.ts'
import { isList, isMap } from './stack/reading.ts'

type Stack = { readonly [section: string]: Json }

/** Names of the configs that ad-hoc files become. */
const PREFIX = 'x-orchestrator-file-'

/** A stack with ad-hoc files in it. */
export interface WithAdHocFiles {
  readonly stack: Stack
  /** Where a key of the stack stands in the file: keys of ad-hoc files are `x-orchestrator.files.PATH`. */
  readonly writtenKey: (key: string) => string
}

/** Makes each of `x-orchestrator.files` a config of the service that it is for, so that there is one way for files. */
export function withAdHocFiles(
  stack: Stack,
  files: Extension['files'],
  entry: string,
  faults: Pick<FaultList, 'add'>,
): WithAdHocFiles {
  const services: { [name: string]: Json } = { ...(isMap(stack['services']) ? stack['services'] : {}) }
  const configs: { [name: string]: Json } = { ...(isMap(stack['configs']) ? stack['configs'] : {}) }
  const written = new Map<string, string>()
  for (const [target, { content, file, service = entry, mode }] of Object.entries(files)) {
    const key = `x-orchestrator.files.${target}`
    const of = Object.hasOwn(services, service) ? services[service] : undefined
    if (!isMap(of)) {
      faults.add(key, `there is no service ${service}: its services are ${Object.keys(services).join(', ')}`)
      continue
    }
    const name = freeName(configs)
    // A derived template's file stands in for that of its base.
    const before = (isList(of['configs']) ? of['configs'] : []).filter((one) => !isAdHoc(one, target))
    configs[name] = content === undefined ? { file: file ?? '' } : { content }
    services[service] = { ...of, configs: [...before, { source: name, target, mode }] }
    written.set(`configs.${name}.content`, `${key}.content`)
    written.set(`configs.${name}.file`, `${key}.file`)
    written.set(`configs.${name}`, key)
    written.set(`services.${service}.configs[${before.length}]`, key)
  }
  if (written.size === 0) return { stack, writtenKey: (key) => key }
  const writtenKey = (key: string): string => {
    const direct = written.get(key)
    if (direct !== undefined) return direct
    const outer = key.replace(/(^|\.|\[)[^.[]*$/, '')
    return written.get(outer) ?? key
  }
  return { stack: { ...stack, services, configs }, writtenKey }
}

function isAdHoc(config: Json, target: string): boolean {
  return isMap(config) && config['target'] === target && String(config['source']).startsWith(PREFIX)
}

function freeName(configs: { readonly [name: string]: Json }): string {
  let number = 1
  while (Object.hasOwn(configs, `${PREFIX}${number}`)) number += 1
  return `${PREFIX}${number}`
}
