// A receiver of webhooks that verifies them with npm's standardwebhooks. The secret is the argument.
//
// The first line on stdout is {"url": …}. Each message is a line: what the library has verified, or why it has not.

import { createServer } from "node:http";

import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.argv[2]);
const say = (line) => console.log(JSON.stringify(line));

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  try {
    say({ id: request.headers["webhook-id"], verified: webhook.verify(body, request.headers) });
    response.writeHead(204).end();
  } catch (error) {
    say({ refused: error.message });
    response.writeHead(400).end();
  }
});

server.listen(0, "127.0.0.1", () => say({ url: `http://127.0.0.1:${server.address().port}/` }));
