import { InvalidInput } from '../../../common/errors.ts'
import type { Json } from '../../domain/template.ts'
import { envFilesOf } from './env-file.ts'
import { given, type JsonMap, pairsOf, type TemplateFiles, type Variables } from './reading.ts'

/** Set by us in every service: see environmentOf(). */
const OURS = /^ORCHESTRATOR_(INSTANCE|NAME|ADDRESS|OWNER_DUID|OWNER_IAID|OWNER_ADDRESS|HOSTNAME)$/

/** The environment of a service: `env_file`, and `environment` over it. A name without a value takes that of the variable of that name. */
export function environmentOfService(
  service: JsonMap,
  key: string,
  files: TemplateFiles,
  variables: Variables,
): Record<string, string> {
  const envFile = given(service, 'env_file')
  const all = new Map(envFile === undefined ? [] : envFilesOf(envFile, `${key}.env_file`, files, variables))
  for (const name of all.keys()) refuseOurs(name, `${key}.env_file`)
  const environment = given(service, 'environment')
  for (const pair of environment === undefined ? [] : pairsOf(environment, `${key}.environment`)) {
    refuseOurs(pair.name, pair.key)
    const value = pair.value ?? variables.text(pair.name, pair.key)
    if (value === undefined) {
      const remedy = 'give it one, or declare it in x-orchestrator.parameters'
      throw new InvalidInput(pair.key, `${pair.name} has no value, and there is no such variable: ${remedy}`)
    }
    all.set(pair.name, value)
  }
  return Object.fromEntries(all)
}

/** Labels: `label_file`, and `labels` over it. A name without a value is an empty label. */
export function labelsOfService(
  service: JsonMap,
  key: string,
  files: TemplateFiles,
  variables: Variables,
): Record<string, string> {
  const labelFile = given(service, 'label_file')
  const all = new Map(labelFile === undefined ? [] : envFilesOf(labelFile, `${key}.label_file`, files, variables))
  for (const name of all.keys()) checkLabel(name, `${key}.label_file`)
  const labels: Json | undefined = given(service, 'labels')
  for (const pair of labels === undefined ? [] : pairsOf(labels, `${key}.labels`)) {
    checkLabel(pair.name, pair.key)
    all.set(pair.name, pair.value ?? '')
  }
  return Object.fromEntries(all)
}

function refuseOurs(name: string, key: string): void {
  if (OURS.test(name)) throw new InvalidInput(key, `${name} is set by the orchestrator: take another name`)
}

function checkLabel(name: string, key: string): void {
  if (/^org\.orchestrator(\.|$)/.test(name)) {
    throw new InvalidInput(key, 'labels that begin with org.orchestrator are ours: take another name')
  }
}
