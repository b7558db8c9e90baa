/**
 * The WebSocket /v1/stream, kept open. What it is told to follow is asked for again after each reconnect.
 *
 * States: connecting, live, waiting (until the next try), and why the last try failed.
 */

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5_000; // a gateway that is started again is seen soon
const SILENT_MS = 10_000; // without a message; then it is asked whether it is there
const ANSWER_MS = 5_000; // for its answer; then the connection is dropped
const ORDER_MS = 100; // between changes of what is followed: the gateway sends away who orders more than 50 times a second

export class Stream {
  /** told(message): what came; moved(state, words): the connection changed. */
  constructor(told, moved) {
    this.told = told;
    this.moved = moved;
    this.common = []; // channels of all instruments
    this.own = []; // channels of the chosen one
    this.chosen = null;
    this.tries = 0;
    this.connect();
    setInterval(() => this.look(), 1_000);
  }

  /** Follow channels of every instrument, and others of the chosen one. */
  follow(common, own) {
    this.common = common;
    this.own = own;
    if (this.live) this.subscribe();
  }

  /** Choose the instrument; the order goes out once the choice has rested. */
  choose(instrument) {
    this.chosen = instrument;
    clearTimeout(this.ordering);
    this.ordering = setTimeout(() => {
      if (!this.live) return; // a new connection begins with it
      this.say({ op: "unsubscribe", channels: this.own });
      this.say({ op: "subscribe", channels: this.own, instruments: [instrument] });
    }, ORDER_MS);
  }

  get live() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    this.moved("connecting", this.tries ? "reconnecting" : "connecting");
    const address = new URL("v1/stream", document.baseURI);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.socket = socket;
    socket.addEventListener("open", () => this.opened());
    socket.addEventListener("message", (event) => this.heard(event));
    socket.addEventListener("close", (event) => this.closed(socket, event));
  }

  opened() {
    this.heardAt = performance.now();
    this.asked = false;
    this.subscribe();
    this.moved("live", "live");
  }

  subscribe() {
    if (this.common.length) this.say({ op: "subscribe", channels: this.common });
    if (this.chosen) this.say({ op: "subscribe", channels: this.own, instruments: [this.chosen] });
  }

  say(order) {
    this.socket.send(JSON.stringify(order));
  }

  heard(event) {
    this.heardAt = performance.now();
    this.asked = false;
    this.tries = 0; // it works: only now may the next wait be short again
    this.told(JSON.parse(event.data));
  }

  /** Drop a connection that no longer answers: a cable that was pulled says nothing. */
  look() {
    if (!this.live) return;
    const silent = performance.now() - this.heardAt;
    if (this.asked && silent > SILENT_MS + ANSWER_MS) {
      this.closed(this.socket, { reason: "no answer" });
    } else if (!this.asked && silent > SILENT_MS) {
      this.asked = true;
      this.say({ op: "ping" });
    }
  }

  async closed(socket, event) {
    if (socket !== this.socket) return;
    this.socket = null;
    socket.close();
    const wait = Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.tries) + FIRST_WAIT_MS;
    this.tries += 1;
    this.moved("waiting", event.reason || "no connection");
    setTimeout(() => this.connect(), wait);
  }
}

/** Return what a path of the API answers. Throws an Error that says why not, by the problem document if there is one. */
export async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  const body = await answer.json().catch(() => null); // no JSON, or cut off by a gateway that ends
  if (!answer.ok || body === null) throw new Error(body?.detail ?? `${path.split("?")[0]}: ${answer.status}`);
  return body;
}
