/** The bounds of the gates, as the settings say. */
import { DEFAULTS, type GateSettings } from '../../config/schema.js';

export type GateThresholds = Readonly<GateSettings>;

/** What is not said is the default. */
export function gateThresholds(settings: Partial<GateThresholds> = {}): GateThresholds {
  const names = Object.keys(DEFAULTS).filter((name) => name.startsWith('gate_')) as (keyof GateSettings)[];
  return Object.fromEntries(names.map((name) => [name, settings[name] ?? DEFAULTS[name]])) as unknown as GateThresholds;
}
