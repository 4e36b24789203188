// What outlives a reload, in this browser alone: speeches and recordings in IndexedDB, the form in localStorage.

const NAME = "moss-tts";
export const MOST_ENTRIES = 30;
export const MOST_BYTES = 100 * 2 ** 20;

// ---------------------------------------------------------------------------------------------------- form

export function keepForm(values) {
  try {
    localStorage.setItem(NAME, JSON.stringify(values));
  } catch {
    // A browser without storage, or a full one: the form is as long-lived as the page.
  }
}

export function keptForm() {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? {};
  } catch {
    return {};
  }
}

// -------------------------------------------------------------------------------------------------- speeches

/** What is done with an object store, as a promise. */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export async function openStore() {
  try {
    return new Store(await opened());
  } catch {
    return new Memory();
  }
}

function opened() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("entries", { keyPath: "id", autoIncrement: true });
    request.result.createObjectStore("samples");
    request.result.createObjectStore("recordings");
  };
  return done(request);
}

/** Entries of the history by id, their samples apart: a list of speeches need not hold their sound. */
class Store {
  constructor(database) {
    Object.assign(this, { database, lasting: true });
  }

  of(name, mode = "readonly") {
    return this.database.transaction(name, mode).objectStore(name);
  }

  entries() {
    return done(this.of("entries").getAll());
  }

  samples(id) {
    return done(this.of("samples").get(id));
  }

  /** Keep a speech. What is oldest goes where it is too much; the newest stays. */
  async add(entry, samples) {
    const id = await done(this.of("entries", "readwrite").add(entry));
    try {
      await done(this.of("samples", "readwrite").put(samples, id));
    } catch (error) {
      await this.remove(id);
      throw error;
    }
    for (const old of surplus(await this.entries())) await this.remove(old.id);
    return id;
  }

  async remove(id) {
    for (const name of ["entries", "samples"]) await done(this.of(name, "readwrite").delete(id));
  }

  async clear() {
    for (const name of ["entries", "samples"]) await done(this.of(name, "readwrite").clear());
  }

  /** A recording of somebody's, by the choice that it belongs to. */
  keep(name, recording) {
    const recordings = this.of("recordings", "readwrite");
    return done(recording ? recordings.put(recording, name) : recordings.delete(name)).catch(() => {});
  }

  kept(name) {
    return done(this.of("recordings").get(name));
  }
}

/** The oldest entries, as far as all together are too many or too large. */
export function surplus(entries) {
  const [newest, ...older] = [...entries].sort((one, other) => other.id - one.id);
  let bytes = newest?.bytes ?? 0;
  return older.filter((entry, index) => (bytes += entry.bytes) > MOST_BYTES || index + 1 >= MOST_ENTRIES);
}

/** The same for browsers that keep nothing. */
class Memory {
  constructor() {
    Object.assign(this, { lasting: false, all: new Map(), recordings: new Map(), last: 0 });
  }

  async entries() {
    return [...this.all.values()].map(({ entry }) => entry);
  }

  async samples(id) {
    return this.all.get(id)?.samples;
  }

  async add(entry, samples) {
    this.last += 1;
    this.all.set(this.last, { entry: { ...entry, id: this.last }, samples });
    for (const old of surplus(await this.entries())) this.all.delete(old.id);
    return this.last;
  }

  async remove(id) {
    this.all.delete(id);
  }

  async clear() {
    this.all.clear();
  }

  async keep(name, recording) {
    this.recordings.set(name, recording);
  }

  async kept(name) {
    return this.recordings.get(name);
  }
}
