/**
 * The items of one generation with the changes that came after it. Every change takes a slot, in the order of the log, and
 * no slot ever changes; a view is the state after so many slots, and stays what it is while a request works on it.
 *
 * Slots are searched through segments: sealed ones of growing size, each a merger of what came before it, and a small last
 * one that is made anew after a change, when the next request asks.
 */
import { setImmediate } from 'node:timers/promises';
import { loadAddon, type NativeFilter } from '../ann/addon.js';
import type { Generation } from '../generation/generation.js';
import type { Id, Row } from '../types.js';
import { type DeltaItem, DeltaSegment } from './delta-segment.js';
import { ItemView, type Slots, type ViewSegment } from './item-view.js';

/** Slots that the last segment may cover before it is sealed: making it takes a few tenths of a millisecond. */
const TAIL_SLOTS = 512;
/** A sealed segment is merged with the one before it unless that is so many times larger: few segments, few copies. */
const MERGE_RATIO = 4;

/** More slots than that outside of the sealed segments make a request wait for the next of these. */
const WAIT_SLOTS = 8192;
const SPARSE_SLOTS = 65_536;
const SPARSE_RATIO = 4;
const NO_ROWS = new Uint32Array(0);

/** A segment, and which of its rows have changed since it was made. */
interface Sealed {
  readonly segment: DeltaSegment;
  readonly dead: number[];
}

/** Deltas of this process so far. */
let made = 0;

export class ItemDelta implements Slots {
  readonly serial = ++made;
  private readonly ids: Id[] = [];
  private readonly items: (DeltaItem | undefined)[] = [];
  /** The slot of the same item before this one, or -1. */
  private readonly previous: number[] = [];
  private readonly latest = new Map<Id, number>();
  /** Bit r is 1 while row r of the generation may be answered. */
  private readonly visible: Uint8Array;
  private hidden = 0;
  /** Rows of the generation that changes have replaced or taken away. */
  private replaced = 0;
  private visibleFilter: { readonly hidden: number; readonly filter: NativeFilter } | undefined;

  /** Segments of the slots below sealedEnd, in their order. */
  private sealed: Sealed[] = [];
  private sealedEnd = 0;
  private sealing: Promise<void> | undefined;
  private current: { readonly view: ItemView; readonly sealed: readonly Sealed[] } | undefined;
  private making: Promise<void> | undefined;
  private isClosed = false;

  constructor(readonly generation: Generation) {
    const rows = generation.itemIds.size;
    this.visible = new Uint8Array(Math.ceil(rows / 8)).fill(0xff);
    if (rows % 8 !== 0) this.visible[rows >> 3] = (1 << (rows & 7)) - 1;
    for (const row of generation.skippedItems) this.hide(row);
  }

  /** Items that a view answers from the delta now. */
  get liveItems(): number {
    return this.live;
  }
  private live = 0;

  /** Rows of the generation that a view hides because of changes. */
  get tombstones(): number {
    return this.replaced;
  }

  /** The next change of an item: `item` replaces what there is under its id, undefined takes it away. */
  apply(id: Id, item: DeltaItem | undefined): void {
    const slot = this.ids.length;
    const before = this.latest.get(id) ?? -1;
    const row = before < 0 ? this.generation.itemIds.rowOf(id) : undefined;
    if (row !== undefined && !this.isHidden(row)) {
      this.hide(row);
      this.replaced++;
    }
    if (before >= 0 && this.items[before] !== undefined) this.live--;
    if (item !== undefined) this.live++;
    this.ids.push(id);
    this.items.push(item);
    this.previous.push(before);
    this.latest.set(id, slot);
    if (before >= 0) markDead(this.sealed, before);
    if (this.ids.length - this.sealedEnd > TAIL_SLOTS) this.seal();
  }

  /** Whether requests find the item, after every change so far. */
  has(id: Id): boolean {
    const slot = this.latest.get(id);
    if (slot !== undefined) return this.items[slot] !== undefined;
    const row = this.generation.itemIds.rowOf(id);
    return row !== undefined && !this.isHidden(row);
  }

  lastSlot(id: Id, end: number): number {
    let slot = this.latest.get(id) ?? -1;
    while (slot >= end) slot = this.previous[slot]!;
    return slot;
  }

  isHidden(row: Row): boolean {
    return (this.visible[row >> 3]! & (1 << (row & 7))) === 0;
  }

  itemAt(slot: number): DeltaItem | undefined {
    return this.items[slot];
  }

  idAt(slot: number): Id {
    return this.ids[slot]!;
  }

  /** Runs `work` on the state after every change so far. */
  async use<T>(work: (view: ItemView) => Promise<T>): Promise<T> {
    const wanted = this.ids.length;
    while (this.current?.sealed !== this.sealed || this.current.view.slots < wanted) await this.makeView();
    const view = this.current.view.retain();
    try {
      return await work(view);
    } finally {
      view.release();
    }
  }

  /** Views under way are not cut short. */
  async close(): Promise<void> {
    this.isClosed = true;
    await Promise.allSettled([this.sealing, this.making]);
    this.current?.view.release();
    this.current = undefined;
    for (const { segment } of this.sealed) segment.release();
    this.sealed = [];
    this.sealedEnd = 0; // whoever still comes is answered from one segment of all
  }

  /** The live items, and what the changes took away, in as few slots as can be. */
  compacted(): ItemDelta {
    const delta = new ItemDelta(this.generation);
    for (const [id, slot] of this.latest) delta.apply(id, this.items[slot]);
    return delta;
  }

  /** Whether so many slots are of the past that it pays to leave them behind. */
  get isSparse(): boolean {
    return this.ids.length > SPARSE_SLOTS && this.ids.length > SPARSE_RATIO * this.latest.size;
  }

  private makeView(): Promise<void> {
    this.making ??= this.nextView().finally(() => {
      this.making = undefined;
    });
    return this.making;
  }

  private async nextView(): Promise<void> {
    // A flood of changes: better to wait for the segment that takes most of them in than to make one of them all.
    while (this.sealing !== undefined && this.ids.length - this.sealedEnd > WAIT_SLOTS) await this.sealing;
    const end = this.ids.length;
    const { sealed } = this;
    const visible = this.makeVisible();
    const tail = this.liveSlots(this.sealedEnd, end);
    const parts = sealed.map(({ segment, dead }): ViewSegment => ({
      segment: segment.retain(),
      dead: Uint32Array.from(dead),
    }));
    try {
      if (tail.length > 0) parts.push({ segment: await this.makeSegment(tail), dead: NO_ROWS });
    } catch (error) {
      for (const { segment } of parts) segment.release();
      throw error;
    }
    this.current?.view.release();
    this.current = { view: new ItemView(this.generation, end, parts, visible, this), sealed };
  }

  /** Makes the slots so far part of sealed segments, while requests go on with the segments of now. */
  private seal(): void {
    if (this.isClosed) return;
    this.sealing ??= this.mergeTail().finally(() => {
      this.sealing = undefined;
    });
    this.sealing.catch(() => undefined); // no memory for it: the slots stay in the last segment until the next change
  }

  private async mergeTail(): Promise<void> {
    await setImmediate(); // changes mostly come in batches: all of one first
    while (!this.isClosed && this.ids.length - this.sealedEnd > TAIL_SLOTS) await this.mergeUpTo(this.ids.length);
  }

  private async mergeUpTo(end: number): Promise<void> {
    const tail = this.liveSlots(this.sealedEnd, end);
    let kept = this.sealed.length;
    let rows = tail.length;
    while (kept > 0 && this.sealed[kept - 1]!.segment.rows < MERGE_RATIO * rows)
      rows += this.sealed[--kept]!.segment.rows;
    const merged = this.sealed.slice(kept);
    const older = merged.flatMap(({ segment }) => Array.from(segment.slots).filter((slot) => this.isLast(slot, end)));
    const slots = Uint32Array.from([...older, ...tail]);
    const made: Sealed[] = slots.length === 0 ? [] : [{ segment: await this.makeSegment(slots), dead: [] }];
    for (let slot = end; slot < this.ids.length; slot++) markDead(made, this.previous[slot]!);
    this.sealed = [...this.sealed.slice(0, kept), ...made];
    this.sealedEnd = end;
    for (const { segment } of merged) segment.release();
  }

  private makeSegment(slots: Uint32Array): Promise<DeltaSegment> {
    return DeltaSegment.make(
      this.generation,
      slots,
      Array.from(slots, (slot) => this.items[slot]!),
    );
  }

  /** Slots whose items are there, after `end` slots. */
  private liveSlots(from: number, end: number): Uint32Array {
    const slots: number[] = [];
    for (let slot = from; slot < end; slot++)
      if (this.items[slot] !== undefined && this.isLast(slot, end)) slots.push(slot);
    return Uint32Array.from(slots);
  }

  private isLast(slot: number, end: number): boolean {
    return this.lastSlot(this.ids[slot]!, end) === slot;
  }

  private makeVisible(): NativeFilter | undefined {
    if (this.hidden === 0) return undefined;
    if (this.visibleFilter?.hidden !== this.hidden) {
      const { size: rows } = this.generation.itemIds;
      this.visibleFilter = {
        hidden: this.hidden,
        filter: loadAddon().createFilter({ rows, bytes: this.visible }),
      };
    }
    return this.visibleFilter.filter;
  }

  private hide(row: Row): void {
    if (this.isHidden(row)) return;
    this.visible[row >> 3]! &= ~(1 << (row & 7));
    this.hidden++;
  }
}

/** Notes that the item of a slot has changed; nothing where no segment holds it. */
function markDead(sealed: readonly Sealed[], slot: number): void {
  for (const { segment, dead } of sealed) {
    const row = segment.rowOf(slot);
    if (row !== undefined) dead.push(row);
  }
}
