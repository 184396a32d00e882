// A second opinion on Cosmos DB: the package @vercel/cosmosdb-server, put right where a client of Microsoft's would not
// get on with it.
//
//   node cosmosdb-server.js      listens on a free loopback port and prints `listening ADDRESS:PORT`
//
// It takes every signature. Its batches are not undone where an operation fails, and its change feed is none.
"use strict";

const { createHttpServer } = require("@vercel/cosmosdb-server");

// What is wrong with an answer; each changes it in place.
function correct(request, response, body) {
  const path = request.url.split("?")[0];
  if (path === "/") {
    // It calls itself https, whatever it speaks.
    for (const location of [...body.writableLocations, ...body.readableLocations]) {
      location.databaseAccountEndpoint = location.databaseAccountEndpoint.replace(/^https:/, "http:");
    }
  } else if (path.endsWith("/pkranges")) {
    for (const range of body.PartitionKeyRanges || []) range.id = String(range.id);
  } else if (response.statusCode === 500 && request.method === "GET" && /\/docs\/[^/]+$/.test(path)) {
    // It trips over a document that is not there.
    response.statusCode = 404;
    body.code = "NotFound";
  }
}

const server = createHttpServer({ keepAlive: true });
const [answer] = server.listeners("request");
server.removeAllListeners("request");

server.on("request", (request, response) => {
  const end = response.end.bind(response);
  response.end = text => {
    if (!text) return end();
    const body = JSON.parse(text);
    correct(request, response, body);
    return end(JSON.stringify(body));
  };
  answer(request, response);
});

server.listen(0, "127.0.0.1", () => {
  const { address, port } = server.address();
  console.log(`listening ${address}:${port}`);
});
