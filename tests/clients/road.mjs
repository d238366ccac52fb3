// A way to a service on which connections and answers can be lost.

import { connect, createServer } from "node:net";

/** Opens a way to the service at `url`, until the test ends. */
export async function road(t, url) {
  const { hostname, port } = new URL(url);
  const sides = new Set();
  let losesAnswers = false;
  let isBlocked = false;
  const server = createServer((here) => {
    if (isBlocked) return here.destroy();
    const there = connect({ host: hostname, port });
    for (const side of [here, there]) {
      sides.add(side);
      side.on("error", () => {});
      side.on("close", () => [here, there].forEach((one) => one.destroy()));
    }
    here.pipe(there);
    there.on("data", (bytes) => losesAnswers || here.write(bytes));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const cut = () => sides.forEach((side) => side.destroy());
  t.after(() => {
    server.close();
    cut();
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** Lets requests through, and no answers. */
    loseAnswers: () => (losesAnswers = true),
    /** Ends what is connected, and lets nothing through. */
    block: () => {
      isBlocked = true;
      cut();
    },
    /** Ends what is connected, and lets everything through from then on. */
    mend: () => {
      losesAnswers = isBlocked = false;
      cut();
    },
  };
}
