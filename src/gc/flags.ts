/** A set of small numbers, a byte each: for sets of nodes, where a Set takes forty. */
export class Flags {
  #flags = new Uint8Array(1024);

  has(id: number): boolean {
    return this.#flags[id] === 1;
  }

  add(id: number): void {
    if (id >= this.#flags.length) {
      const larger = new Uint8Array(Math.max(this.#flags.length * 2, id + 1));
      larger.set(this.#flags);
      this.#flags = larger;
    }
    this.#flags[id] = 1;
  }
}
