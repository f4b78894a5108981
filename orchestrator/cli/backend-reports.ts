import { plain } from '../../common/plain.ts'
import { aligned } from '../../common/table.ts'
import type { BackendReportShape } from '../api/wire.ts'
import { coloured } from './table.ts'

type TargetReport = BackendReportShape['targets'][number]

/** Whether not all is well: nobody to ask, no answer, or something missing. */
export function reportsFail(reports: readonly BackendReportShape[]): boolean {
  return reports.some(({ targets }) => targets.length === 0 || targets.some((target) => outcome(target) !== 'ok'))
}

/** How backends answered, for people: a line for each target, and below what can be done and what is wrong. */
export function reportText(reports: readonly BackendReportShape[]): string {
  const rows = reports.flatMap(({ backend, targets }) =>
    targets.length === 0
      ? [[plain(backend), '-', coloured('failed'), '-', '-']]
      : targets.map((one) => [
          ...[plain(backend), plain(one.target), coloured(outcome(one)), String(one.ms), plain(one.version)],
        ]),
  )
  const remarks = reports.flatMap(({ backend, targets }) =>
    targets.length === 0
      ? [`${plain(backend)} has no targets: there is nowhere for its instances to be`]
      : targets.flatMap((one) => remarksOn(`${plain(backend)} at ${plain(one.target)}`, one)),
  )
  const table = aligned([['BACKEND', 'TARGET', 'OUTCOME', 'MS', 'VERSION'], ...rows])
  return remarks.length === 0 ? table : `${table}\n${remarks.map((line) => `${line}\n`).join('')}`
}

function outcome({ error, missing }: TargetReport): 'ok' | 'incomplete' | 'failed' {
  if (error !== null) return 'failed'
  return missing.length > 0 ? 'incomplete' : 'ok'
}

function remarksOn(where: string, { abilities, missing, error }: TargetReport): string[] {
  return [
    ...(abilities.length === 0 ? [] : [`${where}: ${abilities.map(plain).join(', ')}`]),
    ...missing.map((what) => `${where} lacks: ${plain(what)}`),
    ...(error === null ? [] : [`${where}: ${plain(error.message)}`]),
  ]
}
