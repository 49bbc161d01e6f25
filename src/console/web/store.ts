/** One value, those who watch it. Watchers run at once, in the order of their subscription. */
export class Store<T extends object> {
  private readonly watchers: ((value: T, before: T) => void)[] = [];

  constructor(private value: T) {}

  get(): T {
    return this.value;
  }

  set(patch: Partial<T>): void {
    const before = this.value;
    this.value = { ...before, ...patch };
    for (const watcher of this.watchers) watcher(this.value, before);
  }

  /** Calls the watcher now and after every change. */
  watch(watcher: (value: T, before: T) => void): void {
    this.watchers.push(watcher);
    watcher(this.value, this.value);
  }
}
