package latchkey;

import static org.testng.Assert.assertEquals;
import static org.testng.Assert.assertFalse;
import static org.testng.Assert.assertTrue;

import io.socket.client.IO;
import io.socket.client.Socket;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import okhttp3.OkHttpClient;
import org.json.JSONObject;
import org.testng.annotations.BeforeClass;
import org.testng.annotations.DataProvider;
import org.testng.annotations.Test;

/** The client for Java and Kotlin, as published on Maven Central, against a running stack. */
public class StockTest {
  private String gateway;
  private String alice;
  private String bob;

  @DataProvider
  public Object[] transports() {
    return new Object[] {"polling", "websocket"};
  }

  @BeforeClass
  public void logIn() {
    gateway = Person.required("GATEWAY_URL");
    String issuer = Person.required("ISSUER_URL");
    alice = Person.logIn(issuer, "alice");
    bob = Person.logIn(issuer, "bob");
  }

  private static void assertAdmitted(Person person) throws Exception {
    JSONObject answer = person.call("rt:subscribe", new JSONObject("{\"room\":\"lobby\"}"));
    assertTrue(answer.getBoolean("ok"), answer.toString());
    assertEquals(answer.getString("room"), "lobby");
  }

  private static JSONObject publication(Object bytes) throws Exception {
    JSONObject data = new JSONObject().put("bytes", bytes).put("text", "é😀");
    return new JSONObject().put("room", "lobby").put("event", "message").put("data", data);
  }

  private static byte[] bytes(int length) {
    byte[] bytes = new byte[length];
    for (int index = 0; index < length; index++) bytes[index] = (byte) index;
    return bytes;
  }

  @Test(dataProvider = "transports")
  public void aTokenInAuthConnects(String transport) throws Exception {
    try (Person person = Person.once(gateway, List.of(transport), alice)) {
      person.next(Socket.EVENT_CONNECT);
      assertAdmitted(person);
      assertEquals(person.transport(), transport);
    }
  }

  @Test
  public void itUpgradesFromPolling() throws Exception {
    try (Person person = Person.once(gateway, List.of("polling", "websocket"), alice)) {
      person.next(Socket.EVENT_CONNECT);
      // Each answer lets some of the upgrade happen.
      for (int round = 0; round < 1000 && !person.transport().equals("websocket"); round++) assertAdmitted(person);
      assertEquals(person.transport(), "websocket");
      assertAdmitted(person);
    }
  }

  @Test(dataProvider = "transports")
  public void aRefusalSaysWhy(String transport) throws Exception {
    try (Person person = Person.once(gateway, List.of(transport), "garbage")) {
      JSONObject refusal = (JSONObject) person.next(Socket.EVENT_CONNECT_ERROR)[0];
      assertEquals(refusal.getString("message"), "jwt malformed");
      assertEquals(refusal.getJSONObject("data").getString("type"), "UnauthorizedError");
      assertEquals(refusal.getJSONObject("data").getString("reason"), "token_malformed");
      assertFalse(person.socket.connected());
      person.auth.put("token", alice);
      person.socket.connect();
      person.next(Socket.EVENT_CONNECT);
      assertAdmitted(person);
    }
  }

  @Test(dataProvider = "transports")
  public void binaryDataGoesBothWays(String transport) throws Exception {
    try (Person reader = Person.once(gateway, List.of(transport), alice);
        Person writer = Person.once(gateway, List.of(transport), bob)) {
      for (Person person : List.of(reader, writer)) {
        person.next(Socket.EVENT_CONNECT);
        assertAdmitted(person);
      }
      for (int length : new int[] {0, 256, 70_000}) {
        JSONObject answer = writer.call("rt:publish", publication(bytes(length)));
        assertTrue(answer.getBoolean("ok"), answer.toString());
        for (Person person : List.of(reader, writer)) {
          Object[] heard = person.next("message");
          JSONObject data = (JSONObject) heard[0];
          assertEquals((byte[]) data.get("bytes"), bytes(length));
          assertEquals(data.getString("text"), "é😀");
          assertEquals(((JSONObject) heard[1]).getLong("offset"), answer.getLong("offset"));
        }
      }
    }
  }

  @Test(dataProvider = "transports")
  public void itComesBackByItselfWithAFreshTokenWhenTheOldOneExpires(String transport) throws Exception {
    String issuer = Person.required("SHORT_ISSUER_URL");
    List<String> tokens = new CopyOnWriteArrayList<>();
    tokens.add(Person.logIn(issuer, "alice"));
    IO.Options options = new IO.Options();
    options.reconnectionDelay = 100;
    // OkHttp tells of a WebSocket that the server closes only once it misses the answer to a ping of its own.
    options.webSocketFactory = new OkHttpClient.Builder().pingInterval(1, TimeUnit.SECONDS).build();
    try (Person person = new Person(Person.required("SHORT_GATEWAY_URL"), List.of(transport), options)) {
      person.auth.put("token", tokens.get(0));
      person.freshen(() -> {
        tokens.add(Person.logIn(issuer, "alice"));
        return tokens.get(tokens.size() - 1);
      });
      person.socket.connect();
      person.next(Socket.EVENT_CONNECT);
      JSONObject unauthorized = (JSONObject) person.next("unauthorized")[0];
      assertEquals(unauthorized.getJSONObject("data").getString("reason"), "token_expired");
      person.next(Socket.EVENT_DISCONNECT);
      person.next(Socket.EVENT_CONNECT);
      assertAdmitted(person);
      assertTrue(tokens.size() >= 2, "a token for each attempt");
      assertEquals(new HashSet<>(tokens).size(), tokens.size());
    }
  }
}
