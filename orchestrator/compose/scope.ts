import type { Parameter } from '../domain/parameter.ts'
import { interpolate, variablesIn } from './interpolate.ts'
import { sampleOf } from './parameters.ts'
import { FACT_VARIABLES } from './variables.ts'

export type Fixed = Readonly<Record<string, string | number | boolean>>

/** A value with which a template is tried. */
export interface Sample {
  readonly text: string
  /** An instance could be given this very value, so what is wrong with it is wrong with the template. */
  readonly certain: boolean
}

/** The variables that the texts of a template may name: its parameters, those of its base that it has fixed, and facts. */
export class Scope {
  readonly parameters: readonly Parameter[]
  readonly fixed: Fixed
  readonly #declared: ReadonlyMap<string, Parameter>
  readonly #facts = new Map(FACT_VARIABLES.map((fact) => [fact.name, fact.sample]))
  /** What was found out of fixed values: each may name others again and again, over several bases. */
  readonly #secrets = new Map<string, boolean>()
  readonly #samples = new Map<string, Sample>()

  constructor(parameters: readonly Parameter[], fixed: Fixed) {
    this.parameters = parameters
    this.fixed = fixed
    this.#declared = new Map(parameters.map((parameter) => [parameter.name, parameter]))
  }

  /** What authors may write; facts are so many that they are named by their beginnings. */
  get names(): readonly string[] {
    return [...this.#declared.keys(), ...Object.keys(this.fixed), ...this.#facts.keys()]
  }
  parameter(name: string): Parameter | null {
    return this.#declared.get(name) ?? null
  }
  has(name: string): boolean {
    return this.#declared.has(name) || Object.hasOwn(this.fixed, name) || this.#facts.has(name)
  }
  /** Whether its value is a secret, or has one in it. */
  isSecret(name: string): boolean {
    const text = this.#fixedText(name)
    if (text === null) return this.#declared.get(name)?.type === 'secret'
    const known = this.#secrets.get(name) ?? variablesIn(text).some((reference) => this.isSecret(reference.name))
    this.#secrets.set(name, known)
    return known
  }
  isFile(name: string): boolean {
    return this.#declared.get(name)?.type === 'file'
  }
  /** Whether an instance may go without it. */
  isOptional(name: string): boolean {
    const parameter = this.#declared.get(name)
    return parameter !== undefined && !parameter.required && parameter.default === null
  }

  /** @throws InterpolationFault where a fixed text is wrong in itself */
  sample(name: string): Sample | undefined {
    const text = this.#fixedText(name)
    if (text !== null) {
      const sample = this.#samples.get(name) ?? this.filled(text)
      this.#samples.set(name, sample)
      return sample
    }
    const parameter = this.#declared.get(name)
    if (parameter) {
      const { value, certain } = sampleOf(parameter)
      return { text: String(value), certain: certain && !this.isFile(name) }
    }
    const fact = this.#facts.get(name)
    return fact === undefined ? undefined : { text: fact, certain: false }
  }

  /** A text with samples in it. @throws InterpolationFault */
  filled(text: string): Sample {
    let certain = true
    const filled = interpolate(text, (name) => {
      const sample = this.sample(name)
      if (sample?.certain === false) certain = false
      return sample?.text
    })
    return { text: filled, certain }
  }

  #fixedText(name: string): string | null {
    return Object.hasOwn(this.fixed, name) ? String(this.fixed[name]) : null
  }
}
