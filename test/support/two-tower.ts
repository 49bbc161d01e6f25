/** Small data as two-tower models make it: items in groups with norms of their own, users that lie where no item does. */
import { normal, seeded } from './judge.js';

export interface TwoTower {
  readonly dims: number;
  /** rows x dims. */
  readonly items: Float32Array;
  readonly users: Float32Array;
}

/** Users are shorter than items, shifted as a whole, and each leans towards a few groups of items. */
export function twoTower(items: number, users: number, dims: number, seed: number): TwoTower {
  const random = seeded(seed);
  const groups = Math.max(4, Math.round(Math.sqrt(items) / 2));
  const centres = Array.from({ length: groups }, () => Float64Array.from({ length: dims }, () => normal(random)));
  const shift = Float64Array.from({ length: dims }, () => 0.5 * normal(random));
  const anyCentre = () => centres[Math.floor(random() * groups)]!;
  const rows = (count: number, row: () => (d: number) => number): Float32Array => {
    const values = new Float32Array(count * dims);
    for (let i = 0; i < count; i++) {
      const value = row();
      for (let d = 0; d < dims; d++) values[i * dims + d] = value(d);
    }
    return values;
  };
  return {
    dims,
    items: rows(items, () => {
      const centre = anyCentre();
      const size = Math.exp(0.3 * normal(random));
      return (d) => size * (centre[d]! + 0.8 * normal(random));
    }),
    users: rows(users, () => {
      const [a, b] = [anyCentre(), anyCentre()];
      return (d) => 0.3 * (a[d]! + b[d]! + normal(random)) + shift[d]!;
    }),
  };
}
