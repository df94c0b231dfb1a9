// Lists the devices of a server with a client that is generated from the OpenAPI document: the document provides the types,
// and openapi-fetch sends the requests.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Device = components["schemas"]["Device"];

const [server, token] = [process.env["FLEETI_SERVER"], process.env["FLEETI_TOKEN"]];
if (server === undefined || token === undefined) throw new Error("set FLEETI_SERVER and FLEETI_TOKEN");

const client = createClient<paths>({ baseUrl: server, headers: { authorization: `Bearer ${token}` } });
const { data, error } = await client.GET("/api/v1/devices", { params: { query: { limit: 500 } } });
// `error` has the type of a problem (RFC 9457).
if (error !== undefined) throw new Error(`${error.status}: ${error.detail}`);
const ids: string[] = data.map((device: Device) => `${device.id} ${device.fleet}`);
console.log(ids.join("\n"));

// A missing device is a problem as well; the compiler checks the path parameters.
const missing = await client.GET("/api/v1/devices/{device}", { params: { path: { device: "dev-nobody" } } });
console.log(missing.response.status, missing.error?.type);
