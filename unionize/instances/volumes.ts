import { LABEL, type WireOrder } from '../contract.ts'
import type { Mount } from '../engine/container-spec.ts'
import type { Engine } from '../engine/containers.ts'

/**
 * The volumes of instances. The engine makes them together with the first container that names them, labels and all, so
 * that there is no moment at which one is not known to be ours; they are gone with the instance.
 */
export interface Volumes {
  /**
   * Removes the volumes that these orders of an instance name, when none of its containers is left. Gone already is
   * success; orders that name none cost nothing.
   */
  forget(instance: string, former: readonly WireOrder[], signal?: AbortSignal): Promise<void>
}

/** The place for outputs: little, for everybody in the instance, nothing that could be started or be a device. */
const OUTPUTS_OPTIONS = 'size=1m,nr_inodes=64,mode=1777,nosuid,nodev,noexec'
/** No volume of a template begins like that. */
const OUTPUTS_VOLUME = '_outputs'

export function createVolumes({ engine }: { readonly engine: Pick<Engine, 'removeVolume'> }): Volumes {
  return {
    async forget(instance, former, signal) {
      const names = new Set(former.flatMap(volumesIn))
      await Promise.all([...names].map((name) => engine.removeVolume(volumeName(instance, name), signal)))
    },
  }
}

/** The engine's name of a volume of an instance. A dot, as no instance's id has one: no two instances come to share a volume. */
export function volumeName(instance: string, volume: string): string {
  return `orc-${instance}.${volume}`
}

/** By which a volume is found again. */
export function volumeLabels(host: string, instance: string): Readonly<Record<string, string>> {
  return { [LABEL.role]: 'volume', [LABEL.host]: host, [LABEL.instance]: instance }
}

/** What all services of an instance write their outputs to: in memory, and gone when the last of them ends. */
export function outputsVolume(host: string, instance: string, target: string): Mount {
  const labels = volumeLabels(host, instance)
  const name = volumeName(instance, OUTPUTS_VOLUME)
  return { kind: 'volume', name, labels, target, readOnly: false, tmpfs: OUTPUTS_OPTIONS }
}

function volumesIn({ services, outputs }: WireOrder): string[] {
  const named = services.flatMap(({ mounts }) => mounts.map((m) => (m.kind === 'volume' ? m.volume : null)))
  return [...named.filter((name) => name !== null), ...(outputs ? [OUTPUTS_VOLUME] : [])]
}
