// A stream of server-sent events that comes back by itself, and sleeps while nobody sees the page.

const PAUSES = [500, 1000, 2000, 5000];

export class Stream {
  /**
   * @param address where it is; null: nowhere, for now.
   * @param handlers by the names of events: what takes their data.
   * @param told gets "live", "reconnecting", "paused" or "refused".
   */
  constructor(handlers, told = () => {}) {
    Object.assign(this, { handlers, told, address: null, source: null, tries: 0, timer: 0 });
    document.addEventListener("visibilitychange", () => this.open());
  }

  /** Go on from another address. */
  to(address) {
    if (address === this.address) return;
    this.address = address;
    this.tries = 0;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    if (this.address === null) return;
    if (document.hidden) {
      this.told("paused");
      return;
    }
    const source = new EventSource(this.address);
    this.source = source;
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => {
        this.tries = 0;
        this.told("live");
        handle(JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      if (source.readyState !== EventSource.CLOSED) {
        this.told("reconnecting");
        return;
      }
      // An answer that is no stream: the token is another one by now, or too many pages are open. A browser gives up.
      this.told("refused");
      this.timer = setTimeout(() => this.open(), PAUSES[Math.min(this.tries, PAUSES.length - 1)]);
      this.tries += 1;
    });
  }
}
