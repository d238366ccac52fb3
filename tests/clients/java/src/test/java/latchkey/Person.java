package latchkey;

import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Manager;
import io.socket.client.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.json.JSONException;
import org.json.JSONObject;

/** A client that keeps the events that it hears, each in a queue of its own. */
final class Person implements AutoCloseable {
  private static final long DEADLINE_SECS = 10;
  private static final List<String> EVENTS =
      List.of(Socket.EVENT_CONNECT, Socket.EVENT_CONNECT_ERROR, Socket.EVENT_DISCONNECT, "message", "unauthorized");

  /** The payload of CONNECT, which is read at each connection. */
  final Map<String, String> auth = new ConcurrentHashMap<>();

  final Socket socket;
  private final Map<String, BlockingQueue<Object[]>> heard = new ConcurrentHashMap<>();

  /** Starts a client by these transports; `options` may change the rest. */
  Person(String url, List<String> transports, IO.Options options) {
    options.forceNew = true;
    options.auth = auth;
    options.transports = transports.toArray(String[]::new);
    socket = IO.socket(URI.create(url), options);
    for (String event : EVENTS) {
      BlockingQueue<Object[]> queue = new LinkedBlockingQueue<>();
      heard.put(event, queue);
      socket.on(event, queue::add);
    }
  }

  /** Starts a client that a refusal ends, with a token unless it is null. */
  static Person once(String url, List<String> transports, String token) {
    IO.Options options = new IO.Options();
    options.reconnection = false;
    Person person = new Person(url, transports, options);
    if (token != null) person.auth.put("token", token);
    person.socket.connect();
    return person;
  }

  /** Has `token` called for the token of each further attempt to connect. */
  void freshen(java.util.function.Supplier<String> token) {
    socket.io().on(Manager.EVENT_RECONNECT_ATTEMPT, attempt -> auth.put("token", token.get()));
  }

  /** Waits for the next `event`. Returns its arguments. */
  Object[] next(String event) throws InterruptedException {
    Object[] arguments = heard.get(event).poll(DEADLINE_SECS, TimeUnit.SECONDS);
    if (arguments == null) throw new AssertionError("no event \"" + event + "\" within " + DEADLINE_SECS + " s");
    return arguments;
  }

  /** Emits with an acknowledgement. Returns the answer. */
  JSONObject call(String event, JSONObject payload) throws Exception {
    CompletableFuture<JSONObject> answer = new CompletableFuture<>();
    socket.emit(event, payload, (Ack) arguments -> answer.complete((JSONObject) arguments[0]));
    return answer.get(DEADLINE_SECS, TimeUnit.SECONDS);
  }

  /** The transport of the connection, `polling` or `websocket`; read on the client's own thread. */
  String transport() throws Exception {
    CompletableFuture<String> name = new CompletableFuture<>();
    io.socket.thread.EventThread.exec(() -> {
      try {
        var engine = Manager.class.getDeclaredField("engine");
        engine.setAccessible(true);
        var transport = io.socket.engineio.client.Socket.class.getDeclaredField("transport");
        transport.setAccessible(true);
        name.complete(((io.socket.engineio.client.Transport) transport.get(engine.get(socket.io()))).name);
      } catch (ReflectiveOperationException error) {
        name.completeExceptionally(error);
      }
    });
    return name.get(DEADLINE_SECS, TimeUnit.SECONDS);
  }

  @Override
  public void close() {
    socket.close();
  }

  /** Reads a variable that the harness must set. */
  static String required(String name) {
    String value = System.getenv(name);
    if (value == null || value.isEmpty()) throw new IllegalStateException(name + " is not set; ../README.md lists it");
    return value;
  }

  /** Signs in as a program does. Returns the token's text. */
  static String logIn(String issuer, String username) {
    try {
      JSONObject body = new JSONObject();
      body.put("username", username).put("password", required(username.toUpperCase() + "_PASSWORD"));
      HttpRequest request = HttpRequest.newBuilder(URI.create(issuer + "/login"))
          .header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString(body.toString()))
          .build();
      var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
      if (answer.statusCode() != 200) throw new IllegalStateException("login: HTTP " + answer.statusCode());
      return new JSONObject(answer.body()).getString("token");
    } catch (java.io.IOException | InterruptedException | JSONException error) {
      throw new IllegalStateException(error);
    }
  }
}
