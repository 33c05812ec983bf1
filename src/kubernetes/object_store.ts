/** Objects of one collection in memory, by key and by one index. */

/** How a store tells objects apart and groups them. */
export interface StoreOptions<T> {
  /** Identifies an object, for example `namespace/name`. */
  readonly keyOf: (object: T) => string;
  /** The group that an object belongs to, for example its node; `undefined`: none. */
  readonly groupOf?: (object: T) => string | undefined;
}

/** What a change of the store has touched: an object before and after, `undefined` where it was not. */
export type StoreChange<T> = (before: T | undefined, after: T | undefined) => void;

/** Holds what a follower of a collection knows. */
export class ObjectStore<T> {
  readonly #objects = new Map<string, T>();
  readonly #groups = new Map<string, Map<string, T>>();

  /** @param changed Hears of each object that came, changed or went; of a snapshot, of all. */
  constructor(
    private readonly options: StoreOptions<T>,
    private readonly changed: StoreChange<T> = () => {},
  ) {}

  /** Number of objects. */
  get size(): number {
    return this.#objects.size;
  }

  /** The object of a key. */
  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  /** All objects. */
  values(): Iterable<T> {
    return this.#objects.values();
  }

  /** The objects of a group, none when nothing belongs to it. */
  group(name: string): Iterable<T> {
    return this.#groups.get(name)?.values() ?? [];
  }

  /** Adds an object or takes the place of the one of its key. */
  put(object: T): void {
    const key = this.options.keyOf(object);
    const before = this.#objects.get(key);
    this.#removeFromGroup(key, before);
    this.#objects.set(key, object);
    const group = this.options.groupOf?.(object);
    if (group !== undefined) {
      let members = this.#groups.get(group);
      if (members === undefined) this.#groups.set(group, members = new Map());
      members.set(key, object);
    }
    this.changed(before, object);
  }

  /** Removes the object of that key, if there is one. */
  delete(object: T): void {
    const key = this.options.keyOf(object);
    const before = this.#objects.get(key);
    if (before === undefined) return;
    this.#removeFromGroup(key, before);
    this.#objects.delete(key);
    this.changed(before, undefined);
  }

  /** Makes `objects` all that there is: an object that is not among them went while nobody looked. */
  replace(objects: readonly T[]): void {
    const keys = new Set(objects.map((object) => this.options.keyOf(object)));
    for (const [key, object] of [...this.#objects]) {
      if (!keys.has(key)) this.delete(object);
    }
    for (const object of objects) this.put(object);
  }

  #removeFromGroup(key: string, object: T | undefined): void {
    const group = object === undefined ? undefined : this.options.groupOf?.(object);
    if (group === undefined) return;
    const members = this.#groups.get(group);
    members?.delete(key);
    if (members?.size === 0) this.#groups.delete(group);
  }
}
