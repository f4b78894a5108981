/* What authors of backends get as `orchestrator/contract-suite`: docs/write-a-backend.md. */
export { createFaults, type FaultOptions, type Faults, type PassingCall } from '../support/faults.ts'
export { type TargetProxy, type TargetProxyOptions, targetProxy } from '../support/target-proxy.ts'
export { type ArmedFault, backendContract, type Fault, type FaultInjector, type Subject } from './backend.ts'
